"""What is mutated, and the fast tests that have to notice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Part:
    """Modules that are mutated together, with their tests."""

    sources: tuple[str, ...]
    """Patterns of files below `src/gonogo`."""
    tests: tuple[str, ...]
    """Files in `tests`."""
    share: float = 1.0
    """Share of the mutants that a whole run takes, chosen at random."""
    left_out: tuple[str, ...] = ()
    """Names of tests that take too long to be run for each mutant."""


OUTCOMES = Path("outcomes.json")
"""What came of each mutant, in the working folder of a part."""
SLOW_FIXTURES = frozenset({"trained", "fine_tuned", "postgres", "made", "gauge", "sample"})
"""Tests that use one of these train a network, make a bundle or start a server, and are not run for each mutant."""

PARTS: Mapping[str, Part] = {
    "operating_point": Part(
        sources=("operating_point/*.py",),
        tests=(
            "test_operating_point.py",
            "test_operating_point_audit.py",
            "test_promise.py",
            "test_certificate_lots.py",
        ),
        left_out=(
            "test_the_best_of_several_settings_compared_on_the_same_scores_keeps_its_promise",
            "test_broken_promises_are_as_frequent_as_the_binomial_says",
            "test_counting_pictures_as_parts_breaks_the_promise",
            "test_at_the_promised_rate_false_alarms_stay_within_the_confidence",
            "test_a_leak_that_starts_late_is_not_hidden_by_a_good_past",
            "test_fresh_calibrations_keep_their_promise",
            "test_the_dial_predicts_the_review_rate_of_fresh_calibrations",
            "test_the_rule_keeps_its_promise_at_the_limit_that_the_counts_give",
            "test_the_bound_of_the_line_holds_in_simulation",
            "test_with_correlated_lots_the_certificate_fails_to_cover_and_both_checks_cover",
            "test_without_correlation_all_three_cover_and_nearly_nothing_is_lost",
            "test_the_exact_rates_of_a_population_agree_with_counting",
        ),
    ),
    "roi_losses": Part(
        sources=("train/box_losses.py",),
        tests=("test_box_losses.py",),
        left_out=("test_what_is_shipped_arrives_from_there", "test_the_area_loss_alone_does_not_arrive_from_there"),
    ),
    "bundle": Part(
        sources=("bundle.py", "bundle_graphs.py", "signing/*.py"),
        tests=("test_bundle.py", "test_signing.py", "test_odd_bundles.py", "test_old_bundles.py"),
        left_out=(
            "test_deleting_or_swapping_the_signature_never_changes_what_judges",
            "test_a_key_revoked_in_use_leaves_its_bundle_judging_with_an_alarm_and_brings_in_no_other",
            "test_a_trust_store_that_disappears_is_an_alarm_and_the_bundle_judges_on",
            "test_a_station_records_who_signed_the_bundle_that_it_uses",
            "test_the_commands_make_trust_sign_and_revoke",
            "test_the_command_line_refuses_it_in_one_line",
            "test_the_station_names_what_is_odd_and_the_last_good_bundle_judges_on",
            "test_a_bundle_that_ends_the_worker_is_not_tried_by_the_next_one",
            "test_a_proven_bundle_is_tried_again_after_a_worker_was_killed_while_loading_it",
            "test_the_pages_name_odd_bundles_and_go_on",
            "test_a_bundle_of_0_1_0_is_certified_again",
        ),
    ),
    "ledger": Part(
        sources=("ledger/*.py",),
        tests=("test_ledger.py", "test_ledger_faults.py", "test_ledger_formats.py", "test_signed_actions.py"),
        left_out=(
            "test_150_random_edits_are_all_found_and_none_on_the_untouched_file",
            "test_1000_random_edits_are_all_found_and_none_on_the_untouched_file",
            "test_several_processes_make_and_append_to_one_ledger",
            "test_a_killed_writer_loses_nothing_that_it_told_of",
            "test_a_writer_that_waits_too_long_says_so",
            "test_timing_a_ledger_leaves_a_sound_one",
            "test_without_apsw_the_package_says_what_to_install",
            "test_survey_would_say_what_it_missed",
        ),
    ),
    "station": Part(
        sources=tuple(
            f"station/{name}.py"
            for name in (
                "answers", "cycle", "judging", "messages", "outcomes", "reject", "supervisor", "trigger_queue",
                "watchdog",
            )
        ),
        tests=(
            "test_station.py",
            "test_station_messages.py",
            "test_station_expiry.py",
            "test_station_beside.py",
            "test_tracking.py",
            "test_products.py",
            "test_codes.py",
        ),
        share=0.1,
    ),
}  # fmt: skip
