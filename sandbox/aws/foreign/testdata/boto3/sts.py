"""Who may sign requests, and how refusals look in each protocol."""

import base64
import datetime
import json
import os
import time
import unittest
import urllib.error
import urllib.request
from unittest import mock

import botocore.auth
from botocore.config import Config

from account import ACCOUNT, Account, client

# One operation that needs nothing, for each protocol.
PROTOCOLS = {
    "elbv2": "describe_load_balancers",
    "sts": "get_caller_identity",
    "route53": "list_hosted_zones",
    "ec2": "describe_vpcs",
    "acm": "list_certificates",
    "globalaccelerator": "list_accelerators",
    "cloudwatch": "list_metrics",
}
QUERY, EC2, JSON = ("elbv2", "sts", "route53"), ("ec2",), ("acm", "globalaccelerator")


def role(name):
    return "arn:aws:iam::%s:role/%s" % (ACCOUNT, name)


def keys(credentials):
    return {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }


def web_token(**claims):
    claims = {"iss": "https://oidc.example.com", "sub": "system:serviceaccount:shop:web", "aud": "sts.amazonaws.com", "exp": time.time() + 600, **claims}
    part = lambda document: base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")
    return part({"alg": "RS256"}) + "." + part(claims) + ".c2lnbmF0dXJl"


class Roles(Account):
    sts = client("sts")

    def test_the_account_s_own_key(self):
        who = self.sts.get_caller_identity()
        self.assertEqual((who["Account"], who["Arn"]), (ACCOUNT, "arn:aws:iam::%s:user/lockstep" % ACCOUNT))

    def test_a_role_is_assumed(self):
        assumed = self.sts.assume_role(RoleArn=role("deployer"), RoleSessionName="boto3", DurationSeconds=900)
        session = client("sts", **keys(assumed["Credentials"]))
        self.assertEqual(session.get_caller_identity()["Arn"], assumed["AssumedRoleUser"]["Arn"])
        self.assertAlmostEqual(assumed["Credentials"]["Expiration"].timestamp(), time.time() + 900, delta=60)
        # A session out of a session lasts an hour at most.
        self.refused("ValidationError", session.assume_role, RoleArn=role("reader"), RoleSessionName="chained", DurationSeconds=7200)

    def test_an_external_id_has_to_be_named(self):
        self.refused("AccessDenied", self.sts.assume_role, RoleArn=role("partner"), RoleSessionName="boto3")
        self.sts.assume_role(RoleArn=role("partner"), RoleSessionName="boto3", ExternalId="42")

    def test_a_role_that_is_not_there(self):
        error = self.refused("AccessDenied", self.sts.assume_role, RoleArn=role("nobody"), RoleSessionName="boto3")
        self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], 403)

    def test_a_session_policy_narrows_a_role(self):
        narrow = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:DescribeVpcs", "Resource": "*"}]})
        session = keys(self.sts.assume_role(RoleArn=role("deployer"), RoleSessionName="narrow", Policy=narrow)["Credentials"])
        client("ec2", **session).describe_vpcs()
        self.refused("UnauthorizedOperation", client("ec2", **session).describe_subnets)
        self.refused(
            self.sts.exceptions.MalformedPolicyDocumentException, self.sts.assume_role, RoleArn=role("deployer"), RoleSessionName="broken", Policy="{",
        )

    def test_a_web_identity_needs_no_signature(self):
        unsigned = client("sts", Config(signature_version=botocore.UNSIGNED))
        given = unsigned.assume_role_with_web_identity(RoleArn=role("deployer"), RoleSessionName="pod", WebIdentityToken=web_token())
        self.assertEqual(given["SubjectFromWebIdentityToken"], "system:serviceaccount:shop:web")
        who = client("sts", **keys(given["Credentials"])).get_caller_identity()
        self.assertEqual(who["Arn"], "arn:aws:sts::%s:assumed-role/deployer/pod" % ACCOUNT)
        for token, error in (("no.token.x", "InvalidIdentityTokenException"), (web_token(exp=1), "ExpiredTokenException")):
            self.refused(
                getattr(unsigned.exceptions, error),
                unsigned.assume_role_with_web_identity, RoleArn=role("deployer"), RoleSessionName="pod", WebIdentityToken=token,
            )
        self.refused("MissingAuthenticationToken", unsigned.get_caller_identity)

    def test_an_identity_is_proved_by_a_presigned_url(self):
        """As tokens for clusters do: the URL is made here, and opened by somebody else."""
        url = self.sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
        with urllib.request.urlopen(url) as answer:
            self.assertIn(b"<Arn>arn:aws:iam::%s:user/lockstep</Arn>" % ACCOUNT.encode(), answer.read())
        for wrong in (url + "0", url.replace("X-Amz-Expires=60", "X-Amz-Expires=61")):
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(wrong)
            self.assertEqual(caught.exception.code, 403)
            self.assertIn(b"<Code>SignatureDoesNotMatch</Code>", caught.exception.read())

    def test_a_presigned_url_ends_to_work(self):
        url = self.sts.generate_presigned_url("get_caller_identity", ExpiresIn=1, HttpMethod="GET")
        deadline = time.monotonic() + 10
        while True:  # a second, and what is left of the one in which it was signed
            try:
                urllib.request.urlopen(url).close()
                self.assertLess(time.monotonic(), deadline, "the URL works longer than it says")
                time.sleep(0.1)
            except urllib.error.HTTPError as error:
                self.assertEqual(error.code, 403)
                return


class Refusals(Account):
    def refused_by_all(self, query, ec2, other, config=None, change=None, **credentials):
        """Checks the code and status of each kind of protocol, of a call whose signed request may be changed before it is sent."""
        wanted = {**dict.fromkeys(QUERY, [query]), **dict.fromkeys(EC2, [ec2]), **dict.fromkeys(JSON, [other])}
        for service, operation in PROTOCOLS.items():
            with self.subTest(service):
                made = client(service, config, **credentials)
                if change:
                    made.meta.events.register("before-send", change)
                with self.assertRaises(botocore.exceptions.ClientError) as caught:
                    getattr(made, operation)()
                answer = caught.exception.response
                # CloudWatch is query, JSON or CBOR, by the release of the client.
                self.assertIn((answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]), wanted.get(service, [query, other]))

    def test_no_signature(self):
        self.refused_by_all(
            ("MissingAuthenticationToken", 403), ("AuthFailure", 401), ("MissingAuthenticationTokenException", 400), Config(signature_version=botocore.UNSIGNED)
        )

    def test_an_unknown_key(self):
        self.refused_by_all(
            ("InvalidClientTokenId", 403), ("AuthFailure", 401), ("UnrecognizedClientException", 400), aws_access_key_id="AKIANOBODY", aws_secret_access_key="x"
        )

    def test_a_wrong_secret(self):
        self.refused_by_all(
            ("SignatureDoesNotMatch", 403), ("AuthFailure", 401), ("InvalidSignatureException", 400),
            aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="wrong",
        )

    def test_a_signature_that_is_cut_off(self):
        def cut(request, **_):
            name = "Authorization"
            value = request.headers[name].decode() if isinstance(request.headers[name], bytes) else request.headers[name]
            del request.headers[name]
            request.headers[name] = value.split(", Signature=")[0]

        self.refused_by_all(("IncompleteSignature", 403), ("AuthFailure", 401), ("IncompleteSignatureException", 400), change=cut)

    @unittest.skipUnless(hasattr(botocore.auth, "get_current_datetime"), "this release has no clock that can be set")
    def test_a_clock_that_is_slow(self):
        earlier = botocore.auth.get_current_datetime() - datetime.timedelta(hours=1)
        with mock.patch("botocore.auth.get_current_datetime", return_value=earlier):
            self.refused_by_all(("SignatureDoesNotMatch", 403), ("RequestExpired", 400), ("InvalidSignatureException", 400))

    def test_an_expired_session(self):
        self.refused_by_all(
            ("ExpiredToken", 403), ("RequestExpired", 400), ("ExpiredTokenException", 400),
            **keys({"AccessKeyId": os.environ["EXPIRED_ACCESS_KEY_ID"], "SecretAccessKey": os.environ["EXPIRED_SECRET_ACCESS_KEY"], "SessionToken": os.environ["EXPIRED_SESSION_TOKEN"]}),
        )

    def test_what_a_policy_does_not_allow(self):
        session = keys(client("sts").assume_role(RoleArn=role("reader"), RoleSessionName="boto3")["Credentials"])
        for service, code, status, call in (
            ("elbv2", "AccessDenied", 403, lambda c: c.create_target_group(Name="web", TargetType="lambda")),
            ("ec2", "UnauthorizedOperation", 403, lambda c: c.create_security_group(GroupName="web", Description="web")),
            ("acm", "AccessDeniedException", 400, lambda c: c.request_certificate(DomainName="example.com")),
            ("route53", "AccessDenied", 403, lambda c: c.create_hosted_zone(Name="example.com", CallerReference="1")),
            ("wafv2", "AccessDeniedException", 400, lambda c: c.disassociate_web_acl(ResourceArn="arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/1")),
        ):
            with self.subTest(service):
                reader = client(service, **session)
                error = self.refused(code, lambda: call(reader))
                self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], status)
                self.assertIn("assumed-role/reader/boto3 is not authorized to perform: ", str(error))
        client("elbv2", **session).describe_load_balancers()


if __name__ == "__main__":
    unittest.main()
