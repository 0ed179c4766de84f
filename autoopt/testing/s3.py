"""A server of S3's protocol of one's own, for tests: on the loopback, in a process of its own. Needs moto and boto3."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import Any
from urllib.parse import quote

KEY_ID, SECRET = "testing", "not/a+real&secret"


class S3Server:
    """A running one; `s3_program` says what it can be told."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "autoopt.testing.s3_program"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = f"http://127.0.0.1:{self.tell('start')}"
        self.client: Any = self._client("s3")
        self._buckets = itertools.count()

    def tell(self, line: str) -> str:
        """Send a line; its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        """Stop it; what it kept is gone."""
        self.process.kill()
        self.process.communicate()

    def requests(self) -> list[str]:
        """Those since the last time."""
        found: list[str] = json.loads(self.tell("requests"))
        return found

    def bucket(self) -> str:
        """Make an empty bucket; its name."""
        name = f"bucket-{next(self._buckets)}"
        self.client.create_bucket(Bucket=name)
        return name

    def url(self, bucket: str, key_id: str = KEY_ID, secret: str = SECRET) -> str:
        """Where a store is, with the keys in it."""
        return (
            f"s3://{quote(key_id, safe='')}:{quote(secret, safe='')}@{bucket}/team/store?endpoint_url={self.endpoint}"
        )

    def user(self, name: str, *actions: str) -> tuple[str, str]:
        """The keys of a user who may do so much."""
        iam = self._client("iam")
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=document)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def _client(self, service: str) -> Any:
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
