"""Signing in a browser: make a key, deploy and change limits with it, and see the signature."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.ledger import Where, verify
from gonogo.server.access import Role
from gonogo.signed_actions import SignatureCheck
from pages.conftest import violations
from server_kit import PASSPHRASE, PASSWORD
from shadow_kit import NEW, OLD, set_point


def test_a_person_makes_a_key_deploys_and_sets_limits_with_it(app: FastAPI, new_page: Callable[..., Page]) -> None:
    space = app.state.components.workspace
    shutil.copytree(space.bundles / OLD, space.bundles / NEW)
    set_point(space.bundles / OLD, go_below=82.0, no_go_above=105.0)
    page = new_page(Role.ENGINEER)
    page.goto("/signing-key")
    page.get_by_label("Your password", exact=True).fill(PASSWORD)
    page.get_by_label("Passphrase again").fill(PASSPHRASE)
    page.locator("[name=new]").fill(PASSPHRASE)
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_text("The key was made.")).to_be_visible()
    key_id = str(page.locator("dl code").first.text_content())
    assert violations(page) == []

    page.goto(f"/inspectors/{NEW}")
    expect(page.get_by_text(f"instead of {OLD}")).to_be_visible()
    page.get_by_label("Reason for the change").fill("complaint 17")
    page.get_by_label("Passphrase of your signing key").fill("not this one")
    page.get_by_role("button", name="Deploy").click()
    expect(page.get_by_text("Wrong passphrase. Nothing was changed.")).to_be_visible()
    expect(page.get_by_label("Reason for the change")).to_have_value("complaint 17")
    assert violations(page) == []
    page.get_by_label("Passphrase of your signing key").fill(PASSPHRASE)
    page.get_by_role("button", name="Deploy").click()
    expect(page.get_by_text("Signed by engineer.")).to_be_visible()
    assert space.active_bundle().name == NEW

    page.goto("/understand")
    page.get_by_label("Reason for the change").fill("new supplier")
    page.get_by_label("Passphrase of your signing key").fill("not this one")
    page.get_by_role("button", name="Apply these limits").click()
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_text("Wrong passphrase. Nothing was changed.")).to_be_visible()
    expect(page.get_by_label("Reason for the change")).to_have_value("new supplier")
    page.get_by_label("Passphrase of your signing key").fill(PASSPHRASE)
    page.get_by_role("button", name="Apply these limits").click()
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_text("“new supplier”")).to_be_visible()
    expect(page.get_by_role("link", name=key_id)).to_have_count(2)
    assert violations(page) == []

    with app.state.components.ledger_pool.reading() as ledger:
        assert [row.record.who for row in ledger.actions(Where(action="operating_point"))] == ["engineer"]
    check = SignatureCheck()
    assert verify(space.ledger, also=check) == []
    assert check.verified == 3
