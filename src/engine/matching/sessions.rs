//! Sessions whose orders go when their connection does. Orders of one session are chained through
//! their special halves, newest first; a session is remembered while it asks for it or has such
//! orders.

use super::Matching;
use super::table::NIL;

/// One session. Row 0 is never used.
#[derive(Clone, Copy, Debug, Default)]
struct Session {
    id: u64,
    newest: u32,
    orders: u32,
    is_enabled: bool,
}

/// The sessions, found by id.
pub(super) struct Sessions {
    rows: Vec<Session>,
    /// Id and row, by id.
    by_id: Vec<(u64, u32)>,
    free: Vec<u32>,
    capacity: u32,
}

impl Sessions {
    pub(super) fn new(capacity: u32) -> Sessions {
        let size = capacity as usize;
        let mut rows = Vec::with_capacity(size + 1);
        rows.push(Session::default());
        Sessions {
            rows,
            by_id: Vec::with_capacity(size),
            free: Vec::with_capacity(size),
            capacity,
        }
    }

    #[inline]
    fn find(&self, id: u64) -> Option<u32> {
        if self.by_id.is_empty() {
            return None;
        }
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.by_id[at].1)
    }

    fn has_room(&self) -> bool {
        (self.by_id.len() as u32) < self.capacity
    }

    fn add(&mut self, id: u64) -> u32 {
        assert!(self.has_room(), "checked before commit");
        let row = self.free.pop().unwrap_or_else(|| {
            self.rows.push(Session::default());
            self.rows.len() as u32 - 1
        });
        self.rows[row as usize] = Session {
            id,
            ..Session::default()
        };
        let at = self.by_id.partition_point(|(other, _)| *other < id);
        self.by_id.insert(at, (id, row));
        row
    }

    /// Forgets a session that neither asks for anything nor has orders.
    fn forget_if_idle(&mut self, row: u32) {
        let session = self.rows[row as usize];
        if session.orders == 0 && !session.is_enabled {
            self.by_id.retain(|(id, _)| *id != session.id);
            self.free.push(row);
        }
    }

    /// The sessions by id: id, whether it asks for it, orders.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, bool, u32)> + '_ {
        self.by_id.iter().map(|(id, row)| {
            let session = &self.rows[*row as usize];
            (*id, session.is_enabled, session.orders)
        })
    }
}

impl Matching {
    /// The row of a session that asks for its orders to go with it; 0 where it does not.
    #[inline]
    pub fn session_row(&self, session: u64) -> u32 {
        let row = self.sessions.find(session);
        row.filter(|row| self.sessions.rows[*row as usize].is_enabled)
            .unwrap_or(NIL)
    }

    /// Whether a session with that id is known, or there is room to remember one more.
    pub fn has_room_for_session(&self, session: u64) -> bool {
        self.sessions.find(session).is_some() || self.sessions.has_room()
    }

    /// The sessions that something is remembered of, by id.
    pub fn sessions(&self) -> impl Iterator<Item = u64> + '_ {
        self.sessions.iter().map(|(id, ..)| id)
    }

    /// Whether anything is remembered of that session.
    pub fn knows_session(&self, session: u64) -> bool {
        self.sessions.find(session).is_some()
    }

    /// Has the orders that the session enters from now on go when it does, or no more so.
    ///
    /// # Panics
    /// Where there is no room to remember it: checked before commit.
    pub fn set_cancel_on_disconnect(&mut self, session: u64, is_enabled: bool) {
        let row = match self.sessions.find(session) {
            Some(row) => row,
            None if is_enabled => self.sessions.add(session),
            None => return,
        };
        self.sessions.rows[row as usize].is_enabled = is_enabled;
        self.sessions.forget_if_idle(row);
    }

    pub(super) fn join_session(&mut self, slot: u32, row: u32) {
        let session = &mut self.sessions.rows[row as usize];
        session.orders += 1;
        let older = std::mem::replace(&mut session.newest, slot);
        let special = self.orders.special_mut(slot);
        special.session = row;
        special.session_newer = NIL;
        special.session_older = older;
        if older != NIL {
            self.orders.special_mut(older).session_newer = slot;
        }
    }

    pub(super) fn leave_session(&mut self, slot: u32) {
        let special = *self.orders.special_mut(slot);
        if special.session_newer == NIL {
            self.sessions.rows[special.session as usize].newest = special.session_older;
        } else {
            self.orders.special_mut(special.session_newer).session_older = special.session_older;
        }
        if special.session_older != NIL {
            self.orders.special_mut(special.session_older).session_newer = special.session_newer;
        }
        self.orders.special_mut(slot).session = NIL;
        self.sessions.rows[special.session as usize].orders -= 1;
        self.sessions.forget_if_idle(special.session);
    }

    /// The newest order of a session.
    pub(super) fn newest_of_session(&self, session: u64) -> u32 {
        let row = self.sessions.find(session);
        row.map_or(NIL, |row| self.sessions.rows[row as usize].newest)
    }

    /// The session that an order goes with.
    pub(super) fn session_of(&self, slot: u32) -> Option<u64> {
        let special = self.orders.special(slot).filter(|s| s.session != NIL)?;
        Some(self.sessions.rows[special.session as usize].id)
    }

    /// Remembers a session while a snapshot is read.
    pub(super) fn restore_session(&mut self, id: u64, is_enabled: bool) {
        let row = self.sessions.add(id);
        self.sessions.rows[row as usize].is_enabled = is_enabled;
    }

    /// The row of a session that is known.
    pub(super) fn sessions_row(&self, session: u64) -> u32 {
        self.sessions.find(session).expect("known")
    }

    /// Every session is wanted, and its chain holds as many orders as it says.
    pub(super) fn audit_sessions(&self) -> Result<(), String> {
        let mut sorted = self.sessions.by_id.clone();
        sorted.sort_unstable();
        sorted.dedup_by_key(|(id, _)| *id);
        if sorted != self.sessions.by_id {
            return Err("sessions: are not in order".into());
        }
        let mut chained = 0;
        for (id, row) in &self.sessions.by_id {
            let session = &self.sessions.rows[*row as usize];
            if session.orders == 0 && !session.is_enabled {
                return Err(format!("session {id}: is remembered for nothing"));
            }
            let (mut newer, mut slot, mut orders) = (NIL, session.newest, 0);
            while slot != NIL && orders <= session.orders {
                let special = self.orders.special(slot);
                let Some(special) = special.filter(|s| s.session == *row) else {
                    return Err(format!("session {id}: slot {slot} is not its own"));
                };
                if special.session_newer != newer {
                    return Err(format!("session {id}: slot {slot} is linked elsewhere"));
                }
                (newer, slot) = (slot, special.session_older);
                orders += 1;
            }
            if orders != session.orders {
                return Err(format!("session {id}: {orders} orders do not add up"));
            }
            chained += orders;
        }
        let live = (1..self.orders.pool.fresh).filter(|slot| {
            let special = self.orders.special(*slot);
            special.is_some_and(|special| special.session != NIL)
        });
        if live.count() as u32 != chained {
            return Err("sessions: an order is in no chain".into());
        }
        Ok(())
    }
}
