"""What the scripts share: clients of the emulated account, and a check of each answer's names.

The endpoint is EMULATED_AWS; keys and region are where boto3 looks for them.
"""

import json
import os
import sys
import unittest
import urllib.request
import xml.etree.ElementTree

import boto3
import botocore
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ["EMULATED_AWS"]
ACCOUNT = "123456789012"
# Models of older releases lack members that services have gained since.
MODELS_ARE_RECENT = tuple(map(int, botocore.__version__.split(".")[:2])) >= (1, 40)


# What this run has used: (service, waiter), and how many pages it has read of (service, operation).
WAITED, PAGES = set(), {}


def client(service, config=None, **credentials):
    made = boto3.client(
        service, endpoint_url=ENDPOINT, config=Config(retries={"max_attempts": 0}).merge(config or Config()), **credentials
    )
    if MODELS_ARE_RECENT:
        made.meta.events.register("response-received", lambda **event: check_names(made.meta.service_model, **event))
    find = made.get_waiter
    made.get_waiter = lambda name: WAITED.add((service, name)) or find(name)
    return made


def want_all_used(made):
    """Fails when a client has a waiter that this run has not waited with, or a list of which it has not read two pages. Those of
    operations that are not modelled are none of its business, and a run of some tests says nothing."""
    if any(not argument.startswith("-") for argument in sys.argv[1:]):
        return
    service = made.meta.service_model.service_name
    missed = {name: xform_name(made.get_waiter(name).config.operation) for name in made.waiter_names if (service, name) not in WAITED}
    missed.update((name, name) for name in made.meta.method_to_api_mapping if made.can_paginate(name) and PAGES.get((service, name), 0) < 2)
    bare = client(service, Config(parameter_validation=False))
    missed = [name for name, operation in missed.items() if modelled(bare, operation)]
    assert not missed, "nothing waits with, or reads two pages of: %s" % ", ".join(missed)


def modelled(bare, operation):
    """Whether the emulator has an operation. With no parameters but those of the path it is refused then, but not as an unknown one."""
    members = bare.meta.service_model.operation_model(bare.meta.method_to_api_mapping[operation]).input_shape.members
    try:
        getattr(bare, operation)(**{name: "none" for name, shape in members.items() if shape.serialization.get("location") == "uri"})
    except ClientError as error:
        return error.response["Error"]["Code"] != "NotImplemented"
    return True


def admin(path, method="GET", document=None):
    """Asks the emulator for something that AWS has no API for."""
    body = None if document is None else json.dumps(document).encode()
    with urllib.request.urlopen(urllib.request.Request(ENDPOINT + "/_lockstep/" + path, body, method=method)) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def check_names(service, response_dict, event_name, **_):
    """Fails when an answer has a member that the client's model of the service does not have: it would be lost."""
    operation = service.operation_model(event_name.split(".")[-1])
    if response_dict["status_code"] >= 300 or operation.output_shape is None:
        return
    protocol, shape, body = service.metadata["protocol"], operation.output_shape, response_dict["body"]
    if "cbor" in protocol or "cbor" in response_dict["headers"].get("content-type", ""):
        return
    if protocol == "json":
        lost = lost_members(shape, json.loads(body or b"{}"), operation.name)
    else:
        root = xml.etree.ElementTree.fromstring(body)
        if protocol == "query":
            root = root.find("{*}" + shape.serialization["resultWrapper"])
        lost = lost_elements(shape, root, operation.name)
    lost = [name for name in lost if not name.lower().endswith(".requestid")]
    assert not lost, "the client does not know %s" % lost


def lost_members(shape, value, path):
    if shape.type_name == "structure":
        for name, member in value.items():
            if name not in shape.members:
                yield path + "." + name
            elif member is not None:
                yield from lost_members(shape.members[name], member, path + "." + name)
    elif shape.type_name == "list":
        for each in value:
            yield from lost_members(shape.member, each, path)


def lost_elements(shape, node, path):
    if shape.type_name == "structure":
        members = {}
        for name, member in shape.members.items():
            flat = member.type_name == "list" and member.serialization.get("flattened")
            inner = member.member.serialization.get("name") if flat else None
            members[inner or member.serialization.get("name", name)] = member
        for child in node:
            name = child.tag.split("}")[-1]
            if name not in members:
                yield path + "." + name
                continue
            member = members[name]
            if member.type_name == "list" and member.serialization.get("flattened"):
                member = member.member
            yield from lost_elements(member, child, path + "." + name)
    elif shape.type_name == "list":
        wanted = shape.member.serialization.get("name", "member")
        for child in node:
            if child.tag.split("}")[-1] != wanted:
                yield path + "/" + child.tag.split("}")[-1]
            yield from lost_elements(shape.member, child, path)


class Account(unittest.TestCase):
    def refused(self, error, call, *arguments, **parameters):
        """Checks that a call is refused with an error: the class that the client has for it, or its code."""
        if isinstance(error, str):
            with self.assertRaises(ClientError) as caught:
                call(*arguments, **parameters)
            self.assertEqual(caught.exception.response["Error"]["Code"], error, caught.exception)
        else:
            with self.assertRaises(error) as caught:
                call(*arguments, **parameters)
        self.assertTrue(caught.exception.response["Error"]["Message"])
        return caught.exception

    def pages(self, client, operation, key, size=1, **parameters):
        """Reads a list page by page, and checks that no page is longer than asked for."""
        found, read = [], 0
        for page in client.get_paginator(operation).paginate(PaginationConfig={"PageSize": size}, **parameters):
            self.assertLessEqual(len(page[key]), size)
            found, read = found + page[key], read + 1
        of = client.meta.service_model.service_name, operation
        PAGES[of] = max(read, PAGES.get(of, 0))
        return found
