# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubeconfig without a host: what it looks like, what means the same, and what is never shown of it."""

from __future__ import annotations

import base64
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.pki import kubeconfig
from ansible_collections.weft.podnet.plugins.module_utils.pki.kubeconfig import Kubeconfig, Part

KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
EMBEDDED = Kubeconfig("https://control-plane:6443", Part(pem="ca\n"), Part(pem="cert\n"), Part(pem=KEY))
BY_PATH = Kubeconfig(
    "https://[fd00::2]:6443", Part(path="/pki/ca.crt"), Part(path="/pki/f.crt"), Part(path="/pki/f.key")
)


@pytest.mark.parametrize("config", [EMBEDDED, BY_PATH])
def test_the_text_is_yaml_of_the_document(config: Kubeconfig) -> None:
    text = kubeconfig.render(config)
    assert yaml.safe_load(text) == kubeconfig.document(config) and kubeconfig.same(text, config)


def test_it_is_the_text_that_kubectl_would_write() -> None:
    assert kubeconfig.render(BY_PATH._replace(server="https://control-plane:6443")) == (
        "apiVersion: v1\n"
        "clusters:\n"
        "- cluster:\n"
        "    certificate-authority: /pki/ca.crt\n"
        "    server: https://control-plane:6443\n"
        "  name: default\n"
        "contexts:\n"
        "- context:\n"
        "    cluster: default\n"
        "    user: default\n"
        "  name: default\n"
        "current-context: default\n"
        "kind: Config\n"
        "users:\n"
        "- name: default\n"
        "  user:\n"
        "    client-certificate: /pki/f.crt\n"
        "    client-key: /pki/f.key\n"
    )


@given(path=st.text(st.characters(codec="utf-8"), min_size=1).map(lambda tail: f"/{tail}"))
def test_any_path_survives_the_text(path: str) -> None:
    config = BY_PATH._replace(key=Part(path=path))
    assert yaml.safe_load(kubeconfig.render(config)) == kubeconfig.document(config)


@pytest.mark.parametrize("config", [EMBEDDED, BY_PATH])
def test_another_text_of_the_same_meaning_is_no_change(config: Kubeconfig) -> None:
    document = kubeconfig.document(config)
    assert kubeconfig.same(json.dumps(document), config)
    assert kubeconfig.same(yaml.safe_dump({**document, "preferences": {}}, indent=4), config)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "- a",
        kubeconfig.render(BY_PATH),
        kubeconfig.render(EMBEDDED).replace("6443", "6444"),
        kubeconfig.render(EMBEDDED._replace(key=Part(pem="other\n"))),
        kubeconfig.render(EMBEDDED).replace("  name: default", "  name: other", 1),
        kubeconfig.render(EMBEDDED).replace("    server:", "    insecure-skip-tls-verify: true\n    server:"),
        kubeconfig.render(EMBEDDED) + "preferences: {colors: true}\n",
    ],
)
def test_another_meaning_is_one(text: str) -> None:
    assert not kubeconfig.same(text, EMBEDDED)


def test_a_strangers_names_are_seen_in_every_form() -> None:
    document = kubeconfig.document(EMBEDDED)
    document["users"][0]["name"] = "kubernetes-admin"
    for text in (yaml.safe_dump(document), json.dumps(document), json.dumps(document, indent=2)):
        assert kubeconfig.foreign_names(text) == ["kubernetes-admin"]
    assert kubeconfig.foreign_names(kubeconfig.render(EMBEDDED)) == kubeconfig.foreign_names("") == []


def test_no_description_shows_a_key_or_a_token() -> None:
    document = kubeconfig.document(EMBEDDED)
    document["users"][0]["user"]["token"] = "sesame"
    shown = kubeconfig.describe(EMBEDDED, ", another one") + kubeconfig.describe_text(yaml.safe_dump(document))
    for secret in (KEY, base64.b64encode(KEY.encode()).decode(), "c2VjcmV0", "sesame"):
        assert secret not in shown
    assert "client-key-data: (hidden), another one\n" in shown and "token: (hidden)\n" in shown


def test_another_key_is_noticed() -> None:
    text = kubeconfig.render(EMBEDDED)
    assert not kubeconfig.key_differs(text, EMBEDDED)
    assert kubeconfig.key_differs(text, EMBEDDED._replace(key=Part(pem="other\n")))


@given(
    st.text()
    | st.recursive(
        st.none() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["clusters", "users", "name", "user", "cluster"]), inner)
        ),
    ).map(json.dumps)
)
def test_no_file_is_a_traceback(text: str) -> None:
    kubeconfig.describe_text(text)
    kubeconfig.foreign_names(text)
    kubeconfig.key_differs(text, EMBEDDED)
    assert not kubeconfig.same(text, EMBEDDED)


@pytest.mark.parametrize(
    "server", ["https://control-plane:6443", "https://172.16.0.2:6443", "https://[fd00::2]:6443", "https://api/k8s"]
)
def test_a_good_server(server: str) -> None:
    assert kubeconfig.server_problem(server) == ""


@pytest.mark.parametrize(
    "server",
    [
        "",
        "control-plane:6443",
        "http://control-plane:6443",
        "https://",
        "https://:6443",
        "https://a:0",
        "https://a:99999",
    ]
    + ["https://a:x", "https://u:p@a", "https://a?b", "https://a b", "https://a\n", "https://[fd00::2", 'https://"'],
)
def test_a_bad_server(server: str) -> None:
    assert "https://control-plane:6443" in kubeconfig.server_problem(server)
