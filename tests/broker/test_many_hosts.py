"""URLs of clusters and of Sentinels: their forms, their credentials, what is said of wrong ones."""

from __future__ import annotations

import pytest

from sandboxq.broker.connect.endpoint import ClusterEndpoint, SentinelEndpoint
from sandboxq.broker.connect.resolve import any_endpoint_from_url
from sandboxq.errors import UsageError

SECRET = "S3cr3t/#?"  # noqa: S105 - an example
QUOTED = "S3cr3t%2F%23%3F"


@pytest.mark.parametrize("scheme", ["redis+cluster", "redis-cluster", "valkey+cluster"])
def test_a_cluster_is_named_by_some_of_its_nodes(scheme: str) -> None:
    """One that is down must not keep a worker from starting; the port may be left out."""
    endpoint = any_endpoint_from_url(f"{scheme}://a,b:7001,[::1]:7002?socket_timeout=3")

    assert isinstance(endpoint, ClusterEndpoint)
    urls = [seed.url for seed in endpoint.seeds]
    assert urls == [
        f"redis://{host}?socket_timeout=3" for host in ("a:6379", "b:7001", "[::1]:7002")
    ]
    assert endpoint.answer_timeout == 3
    assert endpoint.safe == "redis+cluster://a,b:7001,[::1]:7002"


def test_user_and_password_are_for_every_node_and_never_shown() -> None:
    """What a log or an error shows must not be a way into Redis."""
    endpoint = any_endpoint_from_url(f"rediss+cluster://ann:{QUOTED}@a,b?ssl_cert_reqs=none")

    assert isinstance(endpoint, ClusterEndpoint)
    for seed in endpoint.seeds:
        connection = seed.at("elsewhere", 1).new_connection()
        assert (connection.host, connection.port) == ("elsewhere", 1)
        assert (connection.username, connection.password) == ("ann", SECRET)
        assert seed.url.startswith("rediss://")
    assert f"{endpoint}" == "rediss+cluster://ann@a,b"
    assert QUOTED not in f"{endpoint!r}"


def test_sentinels_have_credentials_of_their_own() -> None:
    """They are servers of their own: their password is rarely that of the data."""
    url = f"redis+sentinel://ann:{QUOTED}@a,b:1/mymaster/2?sentinel_username=bob&sentinel_password="
    endpoint = any_endpoint_from_url(url + QUOTED + "&socket_connect_timeout=1")

    assert isinstance(endpoint, SentinelEndpoint)
    assert endpoint.master_name == "mymaster"
    master = endpoint.data_node.at("::1", 5).new_connection()
    assert (master.host, master.port, master.db) == ("::1", 5, 2)
    assert (master.username, master.password) == ("ann", SECRET)
    sentinels = [each.new_connection() for each in endpoint.sentinels]
    assert [(each.host, each.port, each.db) for each in sentinels] == [("a", 26379, 0), ("b", 1, 0)]
    assert {(each.username, each.password) for each in sentinels} == {("bob", SECRET)}
    assert endpoint.safe == "redis+sentinel://ann@a,b:1/mymaster/2"
    assert endpoint.connect_timeout == 1
    assert QUOTED not in f"{endpoint!r}"


def test_sentinels_without_credentials_get_none() -> None:
    """A Sentinel without a password refuses the one of the data nodes."""
    endpoint = any_endpoint_from_url("redis-sentinel://:pw@a/mymaster")

    assert isinstance(endpoint, SentinelEndpoint)
    assert endpoint.sentinels[0].new_connection().password is None
    assert endpoint.data_node.new_connection().password == "pw"  # noqa: S105 - an example


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis+cluster://", "one of its hosts is empty"),
        ("redis+cluster://a,,b", "one of its hosts is empty"),
        (f"redis+cluster://:{QUOTED}@a:port", "its host, its port"),
        (f"redis+cluster://:{QUOTED}@a/1", "database 0 only"),
        (f"redis+cluster://:{QUOTED}@a?db=1", "database 0 only"),
        (f"redis+cluster://:{QUOTED}@a?colour=red", "it has an option that is not one of"),
        (f"redis+cluster://:{SECRET}@a", "it contains '#'"),
        (f"redis+sentinel://:{QUOTED}@a", "does not name the master"),
        (f"redis+sentinel://:{QUOTED}@a/m/0/1", "does not name the master"),
        (f"redis+sentinel://:{QUOTED}@a/m/x", "not a database number"),
        (f"redis+sentinel://a/m?sentinel_pasword={QUOTED}", "sentinel_username and"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(url: str, problem: str) -> None:
    """A slip in a URL is met at the first start; its text goes to logs that many people read."""
    with pytest.raises(UsageError, match=problem) as caught:
        any_endpoint_from_url(url)

    assert f"write {url.partition(':')[0]}://" in str(caught.value)
    assert "S3cr3t" not in str(caught.value)
