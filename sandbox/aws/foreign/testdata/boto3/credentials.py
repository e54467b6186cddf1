"""Sessions that find their credentials where programs on machines and in containers do, and calls that are repeated."""

import os
import unittest

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError

from account import ACCOUNT, ENDPOINT, MODELS_ARE_RECENT, Account, admin, client
from sts import role, web_token

# What the account itself signs with; the sessions here must not see it.
OWN = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


class Sources(Account):
    def setUp(self):
        hidden = {name: os.environ.pop(name) for name in OWN}
        self.addCleanup(os.environ.update, hidden)

    def environment(self, **variables):
        os.environ.update(variables)
        for name in variables:
            self.addCleanup(os.environ.pop, name)

    def who(self, session):
        return session.client("sts", endpoint_url=ENDPOINT, region_name="eu-west-1").get_caller_identity()["Arn"]

    def test_an_instance(self):
        self.environment(AWS_EC2_METADATA_SERVICE_ENDPOINT=ENDPOINT)
        session = boto3.Session()
        self.assertEqual(session.get_credentials().method, "iam-role")
        self.assertIn(":assumed-role/lockstep-node/i-", self.who(session))

    def test_a_container(self):
        self.environment(AWS_CONTAINER_CREDENTIALS_FULL_URI=ENDPOINT + "/v2/credentials/deployer", AWS_CONTAINER_AUTHORIZATION_TOKEN="any")
        session = boto3.Session()
        self.assertEqual(session.get_credentials().method, "container-role")
        self.assertIn(":assumed-role/deployer/", self.who(session))

    def test_a_container_without_a_role(self):
        self.environment(AWS_CONTAINER_CREDENTIALS_FULL_URI=ENDPOINT + "/v2/credentials/nobody", AWS_METADATA_SERVICE_NUM_ATTEMPTS="1")
        with self.assertRaises(botocore.exceptions.BotoCoreError):
            boto3.Session().get_credentials()

    @unittest.skipUnless(MODELS_ARE_RECENT, "this release cannot be told the endpoint of STS for a web identity")
    def test_a_pod(self):
        path = os.path.join(os.environ["HOME"], "token")
        with open(path, "w") as file:
            file.write(web_token())
        self.environment(AWS_WEB_IDENTITY_TOKEN_FILE=path, AWS_ROLE_ARN=role("deployer"), AWS_ROLE_SESSION_NAME="pod", AWS_ENDPOINT_URL_STS=ENDPOINT)
        session = boto3.Session()
        self.assertEqual(session.get_credentials().method, "assume-role-with-web-identity")
        self.assertEqual(self.who(session), "arn:aws:sts::%s:assumed-role/deployer/pod" % ACCOUNT)

    @unittest.skipUnless(MODELS_ARE_RECENT, "this release cannot be told the endpoint of STS for a role")
    def test_a_role_of_a_profile(self):
        path = os.path.join(os.environ["HOME"], "config")
        with open(path, "w") as file:
            file.write("[profile reader]\nrole_arn = %s\nrole_session_name = profile\ncredential_source = EcsContainer\n" % role("reader"))
        self.environment(
            AWS_CONFIG_FILE=path, AWS_CONTAINER_CREDENTIALS_FULL_URI=ENDPOINT + "/v2/credentials/deployer", AWS_ENDPOINT_URL_STS=ENDPOINT,
        )
        self.assertEqual(self.who(boto3.Session(profile_name="reader")), "arn:aws:sts::%s:assumed-role/reader/profile" % ACCOUNT)

    @unittest.skipUnless(MODELS_ARE_RECENT, "this release does not know AWS_ENDPOINT_URL")
    def test_an_endpoint_from_the_environment(self):
        self.environment(AWS_ENDPOINT_URL=ENDPOINT, AWS_CONTAINER_CREDENTIALS_FULL_URI=ENDPOINT + "/v2/credentials/deployer")
        self.assertEqual(boto3.client("elbv2").describe_load_balancers()["LoadBalancers"], [])


class Repetition(Account):
    """Every second call is refused: clients try again, and see nothing of it but the number of their attempts."""

    def fault(self, **fault):
        identifier = admin("faults", "POST", {"every": 2, **fault})["id"]
        self.addCleanup(admin, "faults/" + identifier, "DELETE")

    def repeated(self, service, operation, mode, **parameters):
        repeating = client(service, Config(retries={"mode": mode, "total_max_attempts": 3}))
        return [getattr(repeating, operation)(**parameters)["ResponseMetadata"]["RetryAttempts"] for _ in range(2)]

    def test_throttled_calls_of_each_protocol(self):
        self.fault(kind="throttle")
        for service, operation in (
            ("elbv2", "describe_load_balancers"), ("ec2", "describe_vpcs"), ("acm", "list_certificates"), ("route53", "list_hosted_zones"),
            ("cloudwatch", "list_metrics"), ("globalaccelerator", "list_accelerators"),
        ):
            for mode in ("legacy", "standard") if service in ("elbv2", "cloudwatch") else ("standard",):
                with self.subTest(service, mode=mode):
                    self.assertIn(1, self.repeated(service, operation, mode))

    def test_what_a_throttled_call_says(self):
        self.fault(kind="throttle", every=1)
        for service, operation, code, status in (
            ("elbv2", "describe_load_balancers", "Throttling", 400), ("ec2", "describe_vpcs", "RequestLimitExceeded", 503),
            ("acm", "list_certificates", "ThrottlingException", 400), ("route53", "list_hosted_zones", "Throttling", 400),
        ):
            with self.subTest(service):
                error = self.refused(code, getattr(client(service), operation))
                self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], status)

    def test_an_error_of_the_server(self):
        self.fault(kind="error", operations=["elasticloadbalancing:*"])
        self.assertIn(1, self.repeated("elbv2", "describe_load_balancers", "standard"))

    def test_what_the_client_got_wrong_is_not_repeated(self):
        repeating = client("elbv2", Config(retries={"mode": "standard", "total_max_attempts": 3}))
        with self.assertRaises(ClientError) as caught:
            repeating.describe_load_balancers(Names=["nobody"])
        self.assertEqual(caught.exception.response["ResponseMetadata"]["RetryAttempts"], 0)


if __name__ == "__main__":
    unittest.main()
