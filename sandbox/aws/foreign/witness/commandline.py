"""Repeats calls by the AWS CLI: one a line on the standard input, what the CLI prints to it on the standard output.

To start the CLI and to read AWS's models takes most of its time, so that is done once, and each call is a run of it in a process forked from this one.
"""

import json
import os
import sys

import awscli.clidriver
import awscli.handlers  # what each run would load
from awscli.clidriver import xform_name  # v2 has a botocore of its own

driver = awscli.clidriver.create_clidriver()
for service in "ec2", "elbv2":
    driver.session.create_client(service)
    driver.session.get_paginator_model(service)


def run(*arguments):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        for stream in 1, 2:
            os.dup2(write, stream)
        sys.argv = ["aws", *arguments]
        status = driver.main(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    os.close(write)
    with open(read) as printed:
        text = printed.read().strip()
    return text, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def repeat(call):
    text, status = run(
        call["Service"], xform_name(call["Operation"], "-"),
        "--endpoint-url", os.environ["EMULATED_AWS"], "--cli-input-json", json.dumps(call["Input"]),
    )
    if "argument operation: Invalid choice" in text:
        return {"Lacks": "the operation"}
    if "Unknown parameter in input" in text:
        return {"Lacks": "a parameter"}
    return {"Text": text, "Status": status}


for line in sys.stdin:
    print(json.dumps(repeat(json.loads(line))), flush=True)
