"""Key names: what is the same key, what is refused, and what a pattern covers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envelope import keyurl
from envelope.errors import ConfigurationError
from envelope.keyurl import KeyName, matches, parse

VERSION = "0123456789abcdef0123456789abcdef"
LAKE = KeyName("azurekeyvault", "acme.vault.azure.net", "lake")
LAKE_1 = KeyName("azurekeyvault", "acme.vault.azure.net", "lake", VERSION)

SAME = [
    "azurekeyvault://acme/lake",
    "azurekeyvault://acme/lake/",
    "azurekeyvault://ACME/Lake",
    "AzureKeyVault://acme/lake",
    "azurekeyvault://acme:443/lake",
    "azurekeyvault://acme.vault.azure.net/lake",
    "azurekeyvault://acme.vault.azure.net:443/lake/",
    "https://acme.vault.azure.net/keys/lake",
    "https://acme.vault.azure.net/keys/lake/",
    "HTTPS://ACME.VAULT.AZURE.NET:443/keys/LAKE",
]

# Each differs from a name of SAME in one way that some other program might read as the same.
REFUSED = [
    "",
    "lake",
    ":lake",
    "azurekeyvault",
    "azurekeyvault:",
    "azurekeyvault:acme/lake",
    "azurekeyvault:/acme/lake",
    "azurekeyvault:///lake",
    "azurekeyvault:////lake",
    "azurekeyvault://acme",
    "azurekeyvault://acme/",
    "azurekeyvault://acme//",
    "azurekeyvault://acme//lake",
    "azurekeyvault://acme/lake//",
    "azurekeyvault://acme/lake//" + VERSION,
    f"azurekeyvault://acme/lake/{VERSION}/more",
    "azurekeyvault://acme/lake%2F..%2Fevil",
    "azurekeyvault://acme/l%61ke",
    "azurekeyvault://%61cme/lake",
    "azurekeyvault://acme/lake%00",
    "azurekeyvault://acme/../lake",
    "azurekeyvault://acme/./lake",
    "azurekeyvault://acme/lake/..",
    "azurekeyvault://acme/..",
    "azurekeyvault://acme/lake/.",
    "azurekeyvault://acme@evil.example/lake",
    "azurekeyvault://user:pass@acme/lake",
    "azurekeyvault://evil.example#@acme/lake",
    "azurekeyvault://acme\\@evil.example/lake",
    "azurekeyvault://acme/lake?api-version=7.4",
    "azurekeyvault://acme/lake#fragment",
    "azurekeyvault://acme/la_ke",
    "azurekeyvault://acme/lake;x",
    "azurekeyvault://acme/lake*",
    "azurekeyvault://acme/*/" + VERSION,
    "azurekeyvault://acme/lake/*",
    "azurekeyvault://*/lake",
    "azurekeyvault://acm*/lake",
    "azurekeyvault://acme./lake",
    "azurekeyvault://.acme/lake",
    "azurekeyvault://acme..vault.azure.net/lake",
    "azurekeyvault://acme.vault.azure.net./lake",
    "azurekeyvault://-acme/lake",
    "azurekeyvault://acme-/lake",
    "azurekeyvault://ac_me/lake",
    "azurekeyvault://acme:/lake",
    "azurekeyvault://acme:0/lake",
    "azurekeyvault://acme:0443/lake",
    "azurekeyvault://acme:65536/lake",
    "azurekeyvault://acme:99999999999999999999/lake",
    "azurekeyvault://acme:+443/lake",
    "azurekeyvault://acme:4_43/lake",
    "azurekeyvault://acme:443:443/lake",
    "azurekeyvault://acme:443@evil.example/lake",
    "azurekeyvault://[::1]/lake",
    "azurekeyvault://acme/lake ",
    " azurekeyvault://acme/lake",
    "azurekeyvault://acme/lake\n",
    "azurekeyvault://acme/la\tke",
    "azurekeyvault://acme/lake\x00",
    "azurekeyvault://acme/lake\x7f",
    "azurekeyvault://аcme/lake",  # a Cyrillic letter
    "azurekeyvault://acme。vault.azure.net/lake",  # an ideographic full stop
    "azurekeyvault://acme/ʟake",
    "azurekeyvault://aⅽme/lake",  # becomes "c" under NFKC
    "azurekeyvault://acme/lake\u200b",
    "azurekeyvault://acme:４43/lake",
    "azurekeyvault://acme/" + "a" * 128,
    "azurekeyvault://" + "a" * 254 + "/lake",
    "azurekeyvault://acme/lake/" + "0" * 65,
    "https://acme/keys/lake",
    "https://acme:443/keys/lake",
    "https://acme.vault.azure.net/lake",
    "https://acme.vault.azure.net/Keys/lake",
    "https://acme.vault.azure.net/secrets/lake",
    "https://acme.vault.azure.net/keys",
    "https://acme.vault.azure.net/keys/",
    "https://acme.vault.azure.net//keys/lake",
    "https://acme.vault.azure.net/keys//lake",
    "https://acme.vault.azure.net/../keys/lake",
    "https:acme.vault.azure.net/keys/lake",
    "local:",
    "local:Lake",
    "local:lake/",
    "local:lake/V1",
    "local:lake/v1/",
    "local:lake/v1/more",
    "local:/lake",
    "local://lake",
    "local:../lake",
    "local:lake/..",
    "local:la.ke",
    "local:la%6be",
    "local:lake\n",
    "local:*",
    "local:" + "a" * 64,
    "local:lake/" + "a" * 65,
    "vault:" + "a" * 507,
]

# Valid names that a careless comparison (prefix, suffix, substring) takes for a key of acme.
OTHERS = [
    "azurekeyvault://acme.evil.example/lake",
    "azurekeyvault://acme.vault.azure.net.evil.example/lake",
    "azurekeyvault://evil-acme/lake",
    "azurekeyvault://acme2/lake",
    "azurekeyvault://acm/lake",
    "azurekeyvault://acme.vault.azure.cn/lake",
    "azurekeyvault://acme.managedhsm.azure.net/lake",
    "azurekeyvault://vault.azure.net/lake",
    "azurekeyvault://acme:8443/lake",
    "azurekeyvault://acme.vault.azure.net:8443/lake",
    "https://acme.vault.azure.net:8443/keys/lake",
    "azurekeyvault-secret://acme/lake",
    "azurekeyvault-certificate://acme/lake",
    "azurekeyvaults://acme/lake",
    "xn--cme-8cd.example:lake",
    "http://acme.vault.azure.net/keys/lake",
    "local:lake",
    "local:acme/lake",
]
SAME_VAULT = [
    "azurekeyvault://acme/lake2",
    "azurekeyvault://acme/lak",
    "azurekeyvault://acme/lake-1",
    "azurekeyvault://acme/keys/lake",
    "azurekeyvault://acme/evil/lake",
]


@pytest.mark.parametrize("text", SAME)
def test_spellings_of_one_key_are_equal_once_parsed(text: str) -> None:
    assert parse(text) == LAKE
    assert parse(text.rstrip("/") + "/" + VERSION.upper()) == LAKE_1


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_a_spelling_that_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("text", [*OTHERS, *SAME_VAULT])
def test_a_lookalike_is_another_key(text: str) -> None:
    name = parse(text)
    assert name != LAKE
    assert not matches(LAKE, name)
    assert not matches(LAKE, KeyName(name.scheme, name.host, name.name, VERSION))


@pytest.mark.parametrize("text", OTHERS)
def test_a_pattern_for_a_vault_covers_no_lookalike_of_it(text: str) -> None:
    name = parse(text)
    kid = KeyName(name.scheme, name.host, name.name, VERSION)
    assert not matches(parse("azurekeyvault://acme/*"), kid)


def test_a_pattern_for_a_vault_covers_every_version_of_its_keys_alone() -> None:
    everything = parse("azurekeyvault://acme/*")
    assert matches(everything, LAKE_1)
    assert matches(everything, parse(f"azurekeyvault://acme/keys/{VERSION}"))
    assert not matches(everything, parse(f"azurekeyvault-secret://acme/lake/{VERSION}"))


def test_a_pattern_for_a_vault_that_has_a_version_covers_nothing() -> None:
    assert not matches(KeyName(LAKE.scheme, LAKE.host, "*", VERSION), LAKE_1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("azurekeyvault://user@acme/lake", "user info"),
        ("azurekeyvault://acme/l%61ke", "percent-encoding"),
        ("azurekeyvault://acme/lake?x", "a query"),
        ("azurekeyvault://acme/lake#x", "a fragment"),
        ("azurekeyvault://acme/lake\\x", "a backslash"),
        ("azurekeyvault://acme:0443/lake", "the port"),
        ("azurekeyvault://acme./lake", "not a host name"),
        ("https://acme/keys/lake", "full host name"),
    ],
)
def test_a_refusal_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        parse(text)


def test_a_name_without_version_covers_all_versions_and_one_with_it_only_its_own() -> None:
    assert matches(LAKE, LAKE_1)
    assert matches(LAKE_1, LAKE_1)
    assert not matches(LAKE_1, KeyName(LAKE.scheme, LAKE.host, LAKE.name, "0" * 32))


@pytest.mark.parametrize(
    "kid", ["azurekeyvault://acme/lake", "azurekeyvault://acme/*", "local:lake"]
)
@pytest.mark.parametrize(
    "pattern", ["azurekeyvault://acme/*", "azurekeyvault://acme/lake", "local:lake"]
)
def test_a_kid_without_its_exact_version_is_covered_by_nothing(pattern: str, kid: str) -> None:
    assert not matches(parse(pattern), parse(kid))


def test_a_star_is_a_pattern_only_where_there_is_a_vault() -> None:
    assert not matches(parse("awskms:*"), parse("awskms:alias"))
    assert not matches(parse("awskms:*/*"), parse("awskms:a/b"))
    assert matches(parse("awskms:*"), parse("awskms:*"))


def test_a_name_of_another_scheme_equals_only_itself_but_for_the_case_of_its_scheme() -> None:
    assert parse("AwsKms:Alias/X") == parse("awskms:Alias/X")
    assert parse("awskms:alias/x") != parse("awskms:Alias/X")
    assert matches(parse("awskms:alias/x"), parse("awskms:alias/x"))
    assert not matches(parse("awskms:alias"), parse("awskms:alias/x"))


@pytest.mark.parametrize(
    ("text", "scheme"),
    [("LOCAL:x", "local"), ("https://h/keys/k", "azurekeyvault"), ("a+b-c.d:x", "a+b-c.d")],
)
def test_the_scheme_is_found_without_parsing_the_rest(text: str, scheme: str) -> None:
    assert keyurl.scheme_of(text) == scheme


def test_a_hostile_name_of_any_length_costs_little_and_is_not_repeated_in_full() -> None:
    for text in ("local:" + "é" * 10**6, "a." * 10**6, "azurekeyvault://" + "a-" * 10**6):
        with pytest.raises(ConfigurationError) as caught:
            parse(text)
        assert len(str(caught.value)) < 1000


hosts = st.from_regex(
    r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?(\.[a-z0-9]{1,4}){0,3}", fullmatch=True
)
items = st.from_regex(r"[a-zA-Z0-9-]{1,8}", fullmatch=True)
versions = st.none() | st.from_regex(r"[a-zA-Z0-9]{1,8}", fullmatch=True)
ports = st.sampled_from(["", ":443", ":8443"])


@st.composite
def vault_names(draw: st.DrawFn) -> str:
    version = draw(versions)
    path = f"{draw(items)}/{version}" if version else draw(items | st.just("*"))
    scheme = draw(st.sampled_from(["azurekeyvault", "azurekeyvault-secret"]))
    return f"{scheme}://{draw(hosts)}{draw(ports)}/{path}"


local_names = st.from_regex(r"local:[a-z0-9-]{1,8}(/[a-z0-9]{1,8})?", fullmatch=True)
foreign_names = st.from_regex(r"[a-z]{2}kms:[!-~]{1,20}", fullmatch=True)
names = vault_names() | local_names | foreign_names


@given(names)
def test_the_text_of_a_parsed_name_parses_to_the_same_name(text: str) -> None:
    assert parse(str(parse(text))) == parse(text)


@given(st.text(max_size=40) | st.text("azurekeyvault:/.*@%#?lc0-", max_size=40))
@example("azurekeyvault://a/b")
def test_any_text_is_either_a_name_that_is_stable_or_refused(text: str) -> None:
    try:
        name = parse(text)
    except ConfigurationError:
        return
    assert parse(str(name)) == name
    assert name.scheme == name.scheme.lower()
    assert name.host == name.host.lower()


@given(names, names)
def test_a_pattern_never_reaches_over_schemes_hosts_or_names(first: str, second: str) -> None:
    pattern, kid = parse(first), parse(second)
    if matches(pattern, kid):
        assert (pattern.scheme, pattern.host) == (kid.scheme, kid.host)
        assert pattern.name in ("*", kid.name)
        assert pattern.version in (None, kid.version)


@given(names)
def test_an_exact_name_covers_itself_and_its_unversioned_name_covers_it(text: str) -> None:
    kid = parse(text)
    exact = kid.version is not None or not (kid.host or kid.scheme == "local")
    assert matches(kid, kid) == exact
    assert matches(kid.unversioned, kid) == exact
