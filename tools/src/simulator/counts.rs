//! What happened in simulations, counted.

macro_rules! counts {
    ($($name:ident $words:literal)*) => {
        /// What happened, counted.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $(#[doc = $words] pub $name: u64,)*
        }

        impl Counts {
            /// Adds another simulation's.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }

            /// Every count with its words.
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$(($words, self.$name)),*]
            }
        }
    };
}

counts! {
    steps "steps"
    simulated_ms "simulated milliseconds"
    commands "commands executed"
    events "events, each compared with the model"
    acknowledgements "acknowledgements"
    answers "queries answered"
    ticks "ticks"
    watched "events read by watchers"
    power_losses "power losses"
    torn_tails "torn tails cut"
    found_again "commands recovered that nobody had been told of"
    kills "kills"
    failed_syncs "failed syncs and other calls that ended the node"
    failed_starts "starts that failed on a failing disk"
    disk_reads "looks at what a power loss would leave"
    snapshots "snapshots written"
    snapshots_during_syncs "of these in the middle of a sync"
    snapshots_damaged "snapshots damaged"
    snapshots_ahead "snapshots of a tail that was lost, set aside"
    starts_from_snapshot "starts from a snapshot"
    starts "starts"
    segments "segments filled"
    full_disks "disks without room for a segment"
    disk_full "commands refused disk_full"
    busy "commands refused busy"
    gaps "commands refused sequence_gap"
    connections "connections"
    disconnects "connections lost"
    cuts "links cut"
    resends "commands sent again"
    repeated_events "events sent again"
    slow_consumers "slow consumers dropped"
    replies_gone "replies that had left the window"
    watch_gaps "watches resumed behind what was kept"
    superseded "sessions superseded"
    late_hellos "hellos that came too late"
    turned_away "connections turned away"
    hostile "hostile connections"
    clock_steps "steps of the wall clock"
    idle_times "quiet times"
}
