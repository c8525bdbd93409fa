"""Tokens are taken by the vaults that they are for, and by no others."""

from __future__ import annotations

import base64
import json

import jwt
import pytest

from envelope_testing.keyvault import TokenRejected, Tokens, World

VAULT = "https://vault.azure.net"
OTHER_TENANT = "99999999-8888-7777-6666-555555555555"


@pytest.fixture
def world() -> World:
    world = World()
    world.tokens = Tokens(world)
    return world


def refusal(world: World, token: str, *, audience: str = VAULT, tenant: str | None = None) -> str:
    with pytest.raises(TokenRejected) as caught:
        world.tokens.check(
            token, audience=audience, tenant=tenant or world.principal("writer").tenant
        )
    return caught.value.code


def test_a_token_says_whose_it_is(world: World) -> None:
    writer, reader = world.principal("writer"), world.principal("reader")
    tokens = [world.tokens.issue(who, audience=VAULT) for who in (writer, reader)]
    found = [world.tokens.check(t, audience=VAULT, tenant=writer.tenant) for t in tokens]
    assert found == [writer, reader]


def test_a_token_has_the_claims_that_clients_read(world: World) -> None:
    writer = world.principal("writer")
    payload = world.tokens.issue(writer, audience=VAULT, lifetime=60).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims["aud"] == VAULT
    assert claims["iss"] == f"https://sts.windows.net/{writer.tenant}/"
    assert claims["tid"] == writer.tenant
    assert claims["oid"] == writer.object_id
    assert claims["appid"] == writer.client_id
    assert claims["exp"] - claims["iat"] == 60


def test_a_token_for_another_resource_is_refused(world: World) -> None:
    token = world.tokens.issue(world.principal("writer"), audience="https://managedhsm.azure.net")
    assert refusal(world, token) == "AKV10022"


def test_a_token_of_another_tenant_is_refused(world: World) -> None:
    token = world.tokens.issue(world.principal("writer"), audience=VAULT)
    assert refusal(world, token, tenant=OTHER_TENANT) == "AKV10032"


def test_a_token_expires_by_the_worlds_clock(world: World) -> None:
    writer = world.principal("writer")
    token = world.tokens.issue(writer, audience=VAULT, lifetime=3600)
    world.clock.advance(3500)
    assert world.tokens.check(token, audience=VAULT, tenant=writer.tenant) is writer
    world.clock.advance(101)
    assert refusal(world, token) == "TokenExpired"


def test_all_tokens_can_be_expired_and_later_ones_are_good(world: World) -> None:
    writer = world.principal("writer")
    before = [world.tokens.issue(writer, audience=VAULT) for _ in range(2)]
    world.tokens.expire_all()
    after = world.tokens.issue(writer, audience=VAULT)
    assert [refusal(world, token) for token in before] == ["TokenExpired"] * 2
    assert world.tokens.check(after, audience=VAULT, tenant=writer.tenant) is writer


def test_a_token_of_another_world_is_refused(world: World) -> None:
    other = World()
    other.tokens = Tokens(other)
    token = other.tokens.issue(other.principal("writer"), audience=VAULT)
    assert refusal(world, token) == "AKV10046"


def test_a_token_without_a_signature_or_altered_is_refused(world: World) -> None:
    token = world.tokens.issue(world.principal("writer"), audience=VAULT)
    claims = jwt.decode(token, options={"verify_signature": False})
    head, body, signature = token.split(".")
    altered = [
        jwt.encode(claims, None, algorithm="none"),
        f"{head}.{body}.",
        f"{head}.{body[:-2]}.{signature}",
        "not a token",
        "",
    ]
    assert [refusal(world, each) for each in altered] == ["AKV10046"] * len(altered)
