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
    MIB,
    OPERATORS,
    PUBLIC,
    REVIEWERS,
    Route,
    ScreenUse,
    call,
    data,
    form,
    page_route,
)
from gonogo.server.account import audit, login, people, screens, signing_key
from gonogo.server.api import metrics, openapi
from gonogo.server.api import views as api
from gonogo.server.compare import views as compare
from gonogo.server.datasets import history, plan, zones
from gonogo.server.datasets import views as datasets
from gonogo.server.datasets.uploads import MOST_BYTES
from gonogo.server.fleet import views as fleet
from gonogo.server.grid import views as grid
from gonogo.server.kserve import documented, rest
from gonogo.server.label import views as label
from gonogo.server.language import N_
from gonogo.server.model_list import views as model_list
from gonogo.server.overview import overview
from gonogo.server.part_page import views as part_page
from gonogo.server.part_page.search import search_page
from gonogo.server.parts import views as parts
from gonogo.server.products import views as products
from gonogo.server.records import views as records
from gonogo.server.review import views as review
from gonogo.server.shadow import views as shadow
from gonogo.server.sizes import views as sizes
from gonogo.server.station import views as station
from gonogo.server.station import wall
from gonogo.server.stations import views as stations
from gonogo.server.training import views as training
from gonogo.server.understand import views as understand
from gonogo.server.work import views as work

PUBLIC_PATHS = frozenset(
    {"/health", "/ready", "/login", "/screen", "/api/openapi.json", "/v2/health/live", "/v2/health/ready"}
)
"""Paths reachable without a login, besides the static files."""
_BUNDLE = {"name": "tiny.inspector"}
_MODEL, _VERSION = {"name": "tiny"}, {"name": "tiny", "version": "1"}
STATION = {"name": "packing"}
PICTURE = {"name": "tiny", "file": "images/test-000.png"}
"""Example values: a data set and one of its pictures."""

ROUTES: tuple[Route, ...] = (
    # Before login
    data("/health", login.health, PUBLIC, documented=openapi.HEALTH),
    page_route("/login", login.login_page, PUBLIC),
    form("/login", login.login, PUBLIC),
    page_route("/screen", screens.screen_page, PUBLIC),
    form("/screen", screens.pair_screen, PUBLIC),
    # For programs
    data("/ready", metrics.ready, PUBLIC, documented=openapi.READY),
    data("/metrics", metrics.metrics, EVERYONE, documented=openapi.METRICS),
    data("/api/openapi.json", api.openapi, PUBLIC, documented=openapi.OPENAPI),
    data("/api/inspectors", api.inspectors, EVERYONE, documented=openapi.INSPECTORS),
    call("/api/inspect", api.inspect, OPERATORS, documented=openapi.INSPECT, max_body_bytes=api.MOST_PICTURE_BYTES),
    # KServe: scores, no verdicts
    data("/v2/health/live", rest.live, PUBLIC, documented=documented.LIVE),
    data("/v2/health/ready", rest.ready, PUBLIC, documented=documented.READY),
    data("/v2", rest.server, EVERYONE, documented=documented.SERVER, scores_only=True),
    *(
        route
        for place, example in (("/v2/models/{name}", _MODEL), ("/v2/models/{name}/versions/{version}", _VERSION))
        for route in (
            data(place, rest.model, EVERYONE, example=example, documented=documented.MODEL, scores_only=True),
            data(
                f"{place}/ready",
                rest.model_ready,
                EVERYONE,
                example=example,
                documented=documented.MODEL_READY,
                scores_only=True,
            ),
            call(
                f"{place}/infer",
                rest.model_infer,
                EVERYONE,
                example=example,
                documented=documented.INFER,
                scores_only=True,
                max_body_bytes=api.MOST_PICTURE_BYTES,
            ),
        )
    ),
    # Own account
    form("/logout", login.logout, EVERYONE, before_password_change=True),
    page_route("/password", login.password_page, EVERYONE, before_password_change=True),
    form("/password", login.change_password, EVERYONE, before_password_change=True),
    page_route("/signing-key", signing_key.signing_key_page, EVERYONE),
    form("/signing-key", signing_key.make_key, EVERYONE),
    form("/signing-key/passphrase", signing_key.change_passphrase, EVERYONE),
    form("/signing-key/revoke", signing_key.revoke_own, EVERYONE),
    data("/signing-key/{key_id}.pub", signing_key.public_key, EVERYONE, example={"key_id": "0" * 16}),
    form("/preferences", login.set_preferences, EVERYONE, before_password_change=True),
    # Overview and station
    page_route("/", overview, EVERYONE, menu=N_("Overview")),
    page_route("/station", station.station_page, EVERYONE, menu=N_("Station"), screens=ScreenUse.ALL_STATIONS),
    data("/station/events", station.events, EVERYONE, screens=ScreenUse.ALL_STATIONS),
    form("/station/product", station.select_product, OPERATORS),
    page_route("/products", products.products_page, EVERYONE),
    form("/products", products.change_products, ENGINEERS),
    page_route("/wall", wall.wall_page, EVERYONE, screens=ScreenUse.ANY),
    data("/wall/tiles", wall.wall_tiles, EVERYONE, screens=ScreenUse.ANY),
    page_route("/fleet", fleet.fleet_page, ENGINEERS_AND_AUDITORS, menu=N_("Fleet")),
    # Setting stations up
    page_route("/stations", stations.stations_page, EVERYONE, menu=N_("Line")),
    data("/stations/list", stations.stations_list, EVERYONE),
    page_route("/stations/new", stations.new_page, ENGINEERS),
    form("/stations", stations.create, ENGINEERS),
    page_route("/stations/{name}", stations.station_page, ENGINEERS_AND_AUDITORS, example=STATION),
    form("/stations/{name}", stations.save, ENGINEERS, example=STATION),
    data("/stations/{name}/state", stations.state, ENGINEERS_AND_AUDITORS, example=STATION),
    data("/stations/{name}/picture.jpg", stations.picture, ENGINEERS, example=STATION),
    call("/stations/{name}/try", stations.try_once, ENGINEERS, example=STATION),
    form("/stations/{name}/start", stations.start, OPERATORS, example=STATION),
    form("/stations/{name}/stop", stations.stop, OPERATORS, example=STATION),
    form("/stations/{name}/remove", stations.remove, ENGINEERS, example=STATION),
    form("/stations/{name}/restart", stations.restart, OPERATORS, example=STATION),
    # Parts
    page_route("/parts", search_page, EVERYONE, menu=N_("Parts")),
    page_route("/parts/{seq}", part_page.part_page, EVERYONE, example={"seq": "2"}),
    data(
        "/parts/{seq}/picture.jpg",
        parts.part_picture,
        EVERYONE,
        example={"seq": "2"},
        screens=ScreenUse.ANY,
        picture=True,
    ),
    # Review
    page_route("/review", review.review_page, REVIEWERS, menu=N_("Review")),
    data("/review/kinds", review.kinds, REVIEWERS),
    call("/review/deal", review.deal, REVIEWERS),
    call("/review/decide", review.decide, REVIEWERS),
    call("/review/undo", review.take_back, REVIEWERS),
    form("/review/copy", review.copy_reviewed, ENGINEERS),
    data("/review/{ticket}/picture.jpg", review.reviewed_picture, REVIEWERS, example={"ticket": "none"}, picture=True),
    data("/review/{ticket}/part", part_page.dealt_part, REVIEWERS, example={"ticket": "none"}),
    data("/review/{ticket}/nearest", review.nearest, REVIEWERS, example={"ticket": "none"}),
    data(
        "/judged/{number}/picture.jpg",
        review.judged_picture,
        REVIEWERS | AUDITORS,
        example={"number": "0"},
        picture=True,
    ),
    # Understand
    page_route("/understand", understand.understand_page, ENGINEERS_AND_AUDITORS, menu=N_("Understand")),
    data("/understand/setting", understand.setting, ENGINEERS_AND_AUDITORS),
    data("/understand/progress", understand.progress, ENGINEERS_AND_AUDITORS),
    call("/understand/apply", understand.apply, ENGINEERS),
    # Inspectors: list, comparing, shadow mode
    page_route("/inspectors", model_list.inspectors_page, ENGINEERS_AND_AUDITORS, menu=N_("Inspectors")),
    page_route("/inspectors/{name}", model_list.inspector_page, ENGINEERS_AND_AUDITORS, example=_BUNDLE),
    form("/inspectors/{name}/note", model_list.note, ENGINEERS, example=_BUNDLE),
    form("/inspectors/{name}/archive", model_list.archive, ENGINEERS, example=_BUNDLE),
    form("/inspectors/{name}/restore", model_list.restore, ENGINEERS, example=_BUNDLE),
    page_route("/compare", compare.compare_page, ENGINEERS_AND_AUDITORS),
    form("/compare/start", compare.start, ENGINEERS),
    data("/compare/state", compare.state, ENGINEERS_AND_AUDITORS),
    data("/compare/setting", compare.setting, ENGINEERS_AND_AUDITORS, example={"a": "x", "b": "y"}),
    data(
        "/compare/picture.jpg",
        compare.picture,
        ENGINEERS_AND_AUDITORS,
        example={"by": "tiny.inspector", "seq": "2"},
        picture=True,
    ),
    page_route("/shadow", shadow.shadow_page, ENGINEERS_AND_AUDITORS),
    data("/shadow/setting", shadow.setting, ENGINEERS_AND_AUDITORS),
    form("/shadow/start", shadow.start, ENGINEERS),
    form("/shadow/stop", shadow.stop, ENGINEERS),
    form("/shadow/switch", shadow.switch, ENGINEERS),
    call("/shadow/settle", shadow.settle, ENGINEERS),
    # Data sets and labelling
    page_route("/datasets", datasets.datasets_page, ENGINEERS, menu=N_("Data sets")),
    form("/datasets", datasets.create_dataset, ENGINEERS),
    page_route("/datasets/{name}", datasets.dataset_page, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/upload", datasets.upload, ENGINEERS, example={"name": "tiny"}, max_body_bytes=MOST_BYTES),
    call("/datasets/{name}/kinds", datasets.set_kinds, ENGINEERS, example={"name": "tiny"}),
    page_route("/datasets/{name}/plan", plan.plan_page, ENGINEERS, example={"name": "tiny"}),
    page_route("/datasets/{name}/revisions", history.history_page, ENGINEERS, example={"name": "tiny"}),
    form("/datasets/{name}/restore", history.restore, ENGINEERS, example={"name": "tiny"}),
    page_route("/datasets/{name}/pictures", grid.grid_page, ENGINEERS, example={"name": "tiny"}),
    data("/datasets/{name}/thumb.jpg", grid.thumbnail, ENGINEERS, example=PICTURE, picture=True),
    call("/datasets/{name}/pictures/change", grid.change, ENGINEERS, example={"name": "tiny"}, max_body_bytes=MIB),
    call("/datasets/{name}/pictures/undo", grid.undo, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/alike", grid.label_alike, ENGINEERS, example={"name": "tiny"}),
    form("/datasets/{name}/pictures/judge", grid.judge, ENGINEERS, example={"name": "tiny"}),
    page_route("/datasets/{name}/zones", zones.zones_page, ENGINEERS, example={"name": "tiny"}),
    data(
        "/datasets/{name}/zones/picture",
        zones.zones_picture,
        ENGINEERS,
        example={"name": "tiny", "drawn_on": "picture"},
    ),
    call("/datasets/{name}/zones", zones.save, ENGINEERS, example={"name": "tiny"}, max_body_bytes=512 * KIB),
    call("/datasets/{name}/zones/try", zones.try_zones, ENGINEERS, example={"name": "tiny"}, max_body_bytes=512 * KIB),
    page_route("/datasets/{name}/sizes", sizes.sizes_page, ENGINEERS, example={"name": "tiny"}),
    data("/datasets/{name}/sizes/picture", sizes.sizes_picture, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/sizes", sizes.save, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/sizes/edge", sizes.edge, ENGINEERS, example={"name": "tiny"}),
    call(
        "/datasets/{name}/sizes/board", sizes.checkerboard, ENGINEERS, example={"name": "tiny"}, max_body_bytes=64 * MIB
    ),
    call("/datasets/{name}/sizes/try", sizes.try_sizes, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/sizes/copy", sizes.put_into_copy, ENGINEERS, example={"name": "tiny"}),
    page_route("/datasets/{name}/label", label.label_page, ENGINEERS, example={"name": "tiny"}),
    data("/datasets/{name}/samples", label.samples, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/look", label.label_picture, ENGINEERS, example={"name": "tiny"}),
    call("/datasets/{name}/save", label.submit_label, ENGINEERS, example={"name": "tiny"}, max_body_bytes=MIB),
    data("/datasets/{name}/picture.jpg", label.labelled_picture, ENGINEERS_AND_AUDITORS, example=PICTURE, picture=True),
    data("/datasets/{name}/mask.png", label.mask, ENGINEERS, example=PICTURE),
    data("/datasets/{name}/proposal", label.propose, ENGINEERS, example=PICTURE),
    call("/datasets/{name}/grow", label.grow, ENGINEERS, example={"name": "tiny"}, max_body_bytes=MIB),
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
    # Long work
    page_route("/long-work", work.work_page, EVERYONE),
    data("/long-work/state", work.work_state, EVERYONE),
    form("/long-work/{identifier}/cancel", work.cancel, EVERYONE, example={"identifier": "t1"}),
    form("/long-work/{identifier}/first", work.move_first, EVERYONE, example={"identifier": "t1"}),
    form("/long-work/{identifier}/resume", work.resume, EVERYONE, example={"identifier": "t1"}),
    form("/long-work/{identifier}/dismiss", work.dismiss, EVERYONE, example={"identifier": "t1"}),
    # People and records
    page_route("/people", people.people_page, ADMINS, menu=N_("People")),
    form("/people", people.add_person, ADMINS),
    form("/people/{user_id}/role", people.set_role, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/disable", people.disable, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/enable", people.enable, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/password", people.reset_password, ADMINS, example={"user_id": "1"}),
    form("/people/{user_id}/signing-key", signing_key.revoke_of, ADMINS, example={"user_id": "1"}),
    form("/tokens", people.issue_token, ADMINS),
    form("/tokens/{token_id}/revoke", people.revoke_token, ADMINS, example={"token_id": "1"}),
    form("/screens", screens.add_screen, ADMINS),
    form("/screens/{screen_id}/code", screens.new_code, ADMINS, example={"screen_id": "1"}),
    form("/screens/{screen_id}/revoke", screens.revoke_screen, ADMINS, example={"screen_id": "1"}),
    page_route("/audit", audit.audit_page, AUDITORS, menu=N_("Audit log")),
    data("/chain", records.chain_state, ENGINEERS_AND_AUDITORS),
    call("/chain/verify", records.verify_chain, ENGINEERS_AND_AUDITORS, max_body_bytes=256 * KIB),
    # Export
    page_route("/export", records.export_page, ENGINEERS_AND_AUDITORS, menu=N_("Export")),
    data("/export/state", records.exports_state, ENGINEERS_AND_AUDITORS),
    form("/export/table", records.export_table, ENGINEERS_AND_AUDITORS),
    form("/export/shift", records.export_shift, ENGINEERS_AND_AUDITORS),
    form("/export/labels", records.export_labels, ENGINEERS),
    form("/export/inspector", records.export_inspector, ENGINEERS),
    data("/export/{number}/file", records.download, ENGINEERS_AND_AUDITORS, example={"number": "1"}),
)
