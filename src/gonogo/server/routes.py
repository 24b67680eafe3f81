"""The route table: every path of the server, the roles that may use it, and its handler. Add new pages here.

Access control, the navigation, the access tests and the screenshots all use this table.
"""

from __future__ import annotations

from gonogo.server.access import (
    ADMINS,
    AUDITORS,
    ENGINEERS,
    ENGINEERS_AND_AUDITORS,
    EVERYONE,
    KIB,
    OPERATORS,
    PUBLIC,
    REVIEWERS,
    Route,
    call,
    data,
    form,
    page_route,
)
from gonogo.server.account import audit, login, people
from gonogo.server.datasets import history, zones
from gonogo.server.datasets import views as datasets
from gonogo.server.datasets.uploads import MOST_BYTES
from gonogo.server.fleet import views as fleet
from gonogo.server.label import views as label
from gonogo.server.language import N_
from gonogo.server.overview import overview
from gonogo.server.parts import views as parts
from gonogo.server.review import views as review
from gonogo.server.station import views as station
from gonogo.server.training import views as training
from gonogo.server.understand import views as understand

PUBLIC_PATHS = frozenset({"/health", "/login"})
"""Paths reachable without a login, besides the static files."""
PICTURE = {"name": "tiny", "file": "images/test-000.png"}
"""Example values: a data set and one of its pictures."""

ROUTES: tuple[Route, ...] = (
    # Before login
    data("/health", login.health, PUBLIC),
    page_route("/login", login.login_page, PUBLIC),
    form("/login", login.login, PUBLIC),
    # Own account
    form("/logout", login.logout, EVERYONE, before_password_change=True),
    page_route("/password", login.password_page, EVERYONE, before_password_change=True),
    form("/password", login.change_password, EVERYONE, before_password_change=True),
    form("/preferences", login.set_preferences, EVERYONE, before_password_change=True),
    # Overview and station
    page_route("/", overview, EVERYONE, menu=N_("Overview")),
    page_route("/station", station.station_page, EVERYONE, menu=N_("Station")),
    data("/station/events", station.events, EVERYONE),
    form("/station/product", station.select_product, OPERATORS),
    page_route("/fleet", fleet.fleet_page, ENGINEERS_AND_AUDITORS, menu=N_("All stations")),
    data("/parts/{seq}/picture.jpg", parts.part_picture, EVERYONE, example={"seq": "2"}),
    # Review
    page_route("/review", review.review_page, REVIEWERS, menu=N_("Review")),
    data("/review/kinds", review.kinds, REVIEWERS),
    call("/review/deal", review.deal, REVIEWERS),
    call("/review/decide", review.decide, REVIEWERS),
    call("/review/undo", review.take_back, REVIEWERS),
    form("/review/copy", review.copy_reviewed, ENGINEERS),
    data("/review/{ticket}/picture.jpg", review.reviewed_picture, REVIEWERS, example={"ticket": "none"}),
    data("/review/{ticket}/nearest", review.nearest, REVIEWERS, example={"ticket": "none"}),
    data("/judged/{number}/picture.jpg", review.judged_picture, REVIEWERS | AUDITORS, example={"number": "0"}),
    # Understand
    page_route("/understand", understand.understand_page, ENGINEERS_AND_AUDITORS, menu=N_("Understand")),
    data("/understand/setting", understand.setting, ENGINEERS_AND_AUDITORS),
    data("/understand/progress", understand.progress, ENGINEERS_AND_AUDITORS),
    call("/understand/apply", understand.apply, ENGINEERS),
    call("/understand/compare", understand.compare_page, ENGINEERS),
    # Data sets and labelling
    page_route("/datasets", datasets.datasets_page, ENGINEERS, menu=N_("Data sets")),
    form("/datasets", datasets.create_dataset, ENGINEERS),
    page_route("/datasets/{name}", datasets.dataset_page, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/upload", datasets.upload, ENGINEERS, example={"name": "tiny"}, max_body_bytes=MOST_BYTES),
    call("/datasets/{name}/kinds", datasets.set_kinds, ENGINEERS, example={"name": "tiny"}),
    page_route("/datasets/{name}/revisions", history.history_page, ENGINEERS, example={"name": "tiny"}),
    form("/datasets/{name}/restore", history.restore, ENGINEERS, example={"name": "tiny"}),
    page_route("/datasets/{name}/zones", zones.zones_page, ENGINEERS, example={"name": "tiny"}),
    data(
        "/datasets/{name}/zones/picture",
        zones.zones_picture,
        ENGINEERS,
        example={"name": "tiny", "drawn_on": "picture"},
    ),
    call("/datasets/{name}/zones", zones.save, ENGINEERS, example={"name": "tiny"}, max_body_bytes=512 * KIB),
    page_route("/datasets/{name}/label", label.label_page, ENGINEERS, example={"name": "tiny"}),
    data("/datasets/{name}/samples", label.samples, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/look", label.label_picture, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/save", label.submit_label, ENGINEERS, example={"name": "tiny"}),
    data("/datasets/{name}/picture.jpg", label.labelled_picture, ENGINEERS_AND_AUDITORS, example=PICTURE),
    data("/datasets/{name}/mask.png", label.mask, ENGINEERS, example=PICTURE),
    data("/datasets/{name}/proposal", label.propose, ENGINEERS, example=PICTURE),
    data("/datasets/{name}/doubt", label.doubt, ENGINEERS, example={"name": "tiny"}),
    call("/label/keys", label.set_keys, ENGINEERS),
    # Training and deploying
    form("/datasets/{name}/train", training.start, ENGINEERS, example={"name": "tiny"}),
    page_route("/training", training.training_page, ENGINEERS, menu=N_("Training")),
    page_route("/training/{number}", training.job_page, ENGINEERS, example={"number": "1"}),
    data("/training/{number}/state", training.state, ENGINEERS, example={"number": "1"}),
    form("/training/{number}/cancel", training.cancel, ENGINEERS, example={"number": "1"}),
    data("/training/{number}/report", training.training_report, ENGINEERS, example={"number": "1"}, sandboxed=True),
    form("/deploy", training.deploy, ENGINEERS),
    # People and records
    page_route("/people", people.people_page, ADMINS, menu=N_("People")),
    form("/people", people.add_person, ADMINS),
    form("/people/{user_id}/role", people.set_role, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/disable", people.disable, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/enable", people.enable, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/password", people.reset_password, ADMINS, example={"user_id": "1"}),
    form("/tokens", people.issue_token, ADMINS),
    form("/tokens/{token_id}/revoke", people.revoke_token, ADMINS, example={"token_id": "1"}),
    page_route("/audit", audit.audit_page, AUDITORS, menu=N_("Audit log")),
)
