//! Mistakes on purpose, so that a test can show that the simulator finds them. They live here, around
//! the product's code, never in it.

/// One mistake. Each is made again and again while a simulation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A disk that says it has synced and has not.
    AcknowledgeBeforeSync,
    /// A disk that syncs the first page of a range and says that it was all.
    SyncFirstPage,
    /// A disk that never makes a name durable.
    ForgetNames,
    /// A door that takes a command twice.
    TakeTwice,
    /// A responder that loses an event on its way to the gateway.
    LoseEvent,
    /// A responder that hands an event to the gateway twice.
    RepeatEvent,
    /// One bit of an event is another when the gateway gets it.
    AlterEvent,
    /// A snapshot without the sessions.
    ForgetSessions,
    /// A recovery that leaves out the first command after its snapshot.
    SkipOnReplay,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 9] = [
        Sabotage::AcknowledgeBeforeSync,
        Sabotage::SyncFirstPage,
        Sabotage::ForgetNames,
        Sabotage::TakeTwice,
        Sabotage::LoseEvent,
        Sabotage::RepeatEvent,
        Sabotage::AlterEvent,
        Sabotage::ForgetSessions,
        Sabotage::SkipOnReplay,
    ];
}
