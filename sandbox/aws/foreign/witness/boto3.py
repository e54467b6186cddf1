"""Repeats calls by boto3: one a line on the standard input, what boto3 says to it on the standard output."""

import json
import os
import sys

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError

clients = {}


def client(service):
    if service not in clients:
        clients[service] = boto3.client(service, endpoint_url=os.environ["EMULATED_AWS"], config=Config(retries={"max_attempts": 0}))
    return clients[service]


def repeat(call):
    made = client(call["Service"])
    perform = getattr(made, xform_name(call["Operation"]), None)
    if perform is None:
        return {"Lacks": "the operation"}
    try:
        perform(**call["Input"])
    except ParamValidationError as error:
        if "Unknown parameter in input" in str(error):
            return {"Lacks": "a parameter"}
        return {"Lacks": "leave to send it"}  # AWS's model forbids it
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
        return {
            "Text": str(error), "Status": metadata["HTTPStatusCode"], "RequestID": metadata.get("RequestId", ""),
            "Class": type(error).__name__, "HasClass": hasattr(made.exceptions, call["Class"] or "none"),
        }
    return {"Text": "no error"}


for line in sys.stdin:
    print(json.dumps(repeat(json.loads(line))), flush=True)
