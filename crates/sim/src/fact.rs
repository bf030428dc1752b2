//! What real Postgres does, as far as a decision of ours rests on it: one list for two kinds of tests.
//!
//! Owns the facts marked `[run]` in `safety.md`, but for those of Citus. Each is a test of the same name on
//! a real server (`crates/postgres/tests/facts`, which includes this file) and on the fake (`facts`, beside
//! this file): the fake must not be kinder than the real one. Both take their tests from
//! [`facts!`], so a fact without a test on one of the sides does not compile. It must never hold
//! anything but the list.

/// Calls a macro with every fact: a name, where `safety.md` rests on it, what is claimed; and, when the
/// fake has no such detail by design, why no decision depends on it there.
macro_rules! facts {
    ($with:ident) => {
        $with! {
            show_proves_nothing "2"
                "A new session shows the new names while commits do not wait for them yet.";
            a_commit_that_waits_proves_that_all_will "2.1"
                "Once one transaction waits for a name nobody has, every later commit of every session waits.";
            two_changes_at_once_are_weaker_than_both "2.2"
                "While one walsender has the new names and another one the old, a commit is acknowledged that satisfies neither.";
            the_empty_value_frees_waiting_commits "2.3"
                "Loading the empty value ends every wait at once, without any standby.";
            a_connecting_receiver_says_flushed_up_to_its_replay "2.5"
                "On connecting, a receiver reports its own replay position as flushed: a diverged standby acknowledges commits that it does not have.";
            a_receiver_without_its_slot_is_refused "2.5"
                "A receiver whose slot is absent is refused before it reports anything, and streams soon after the slot is made.";
            a_base_backup_under_a_sync_name_acknowledges "2.5"
                "pg_basebackup -X stream under a sync name acknowledges commits that no standby has."
                left "base backups are no walsenders here: ours never run under a sync name, which a test of `basebackup.rs` holds";
            no_commit_slips_through_a_promotion "2.7"
                "A standby that ran under a name nobody has is promoted, and not one commit is acknowledged alone.";
            a_promise_needs_no_restart "4.2"
                "Without a primary_conninfo, loaded by a reload, the receiver ends; Postgres and its read sessions stay.";
            sigterm_ends_a_receiver_that_held_replay_keeps "4.2"
                "While replay is held up the receiver outlives the reload; pg_terminate_backend refuses it, SIGTERM ends it.";
            a_promotion_waits_for_a_conflicting_query "4.5"
                "pg_promote does not open the server before a query that replay conflicts with is over.";
            a_fast_stop_cancels_waits_and_keeps_the_row "5.1"
                "A fast stop ends waiting sessions without success, and their row is there after the restart.";
            children_of_a_killed_postmaster_acknowledge "6"
                "After kill -9 of the postmaster a session that works goes on, and its commit is acknowledged.";
            an_unreaped_postmaster_blocks_the_start "6"
                "The pid file of a dead postmaster that nobody has reaped blocks the next start."
                left "there are no pid files here: reaping is the shell's, and no decision is asked between the end and the reaping";
            received_is_not_known_after_a_restart "1"
                "After a restart pg_last_wal_receive_lsn is NULL or the start of a segment, below what was received.";
            two_candidates_open_one_timeline_and_rewind_does_not_see_it "1"
                "Two candidates promoted in turn both open timeline 2, and pg_rewind says that no rewind is required.";
            an_empty_history_file_is_a_used_number "1"
                "With an empty history file of timeline 2 a promotion opens timeline 3, and its parent is 1.";
            a_true_history_file_makes_the_dead_branch_the_parent "1"
                "With the true history file of a dead timeline 2 a promotion opens timeline 3 as a child of 2.";
            an_empty_history_file_holds_a_restarted_standby_for_ever "1"
                "A standby that starts beside an empty history file above its own timeline does not come up until it is removed.";
            a_standby_past_the_fork_is_turned_back_for_ever "7"
                "A standby that received more than the switch point connects to the new primary again and again, and follows it never.";
            a_standby_past_the_fork_acknowledges "2.5"
                "Each time it is let in, it says to have flushed up to its own end: it acknowledges commits that it does not have.";
            a_frozen_primary_still_shows_as_streaming "3"
                "The receiver of a frozen primary stays in state streaming, while its last message grows old.";
        }
    };
}
