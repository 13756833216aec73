//! When the journaler worked on each of its batches: a bounded log with one writer, read by those who
//! ask where the time of a command went.

use super::Published;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// When the journaler worked on one batch of commands, ns since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchTimes {
    /// The first command of the batch.
    pub first_sequence: u64,
    /// The last command of the batch.
    pub last_sequence: u64,
    /// When it was taken from the ring.
    pub taken_at: u64,
    /// When its last command was appended.
    pub appended_at: u64,
    /// When it was durable under the node's policy.
    pub durable_at: u64,
}

/// The times of the journaler's last batches.
#[derive(Debug)]
pub struct BatchLog {
    entries: Box<[[AtomicU64; 5]]>,
    written: Published,
}

impl BatchLog {
    /// An empty log that keeps at least the last `batches` batches.
    pub fn new(batches: usize) -> BatchLog {
        // One more: the entry that is being overwritten is no longer kept.
        let entries = (batches + 1).next_power_of_two();
        BatchLog {
            entries: (0..entries).map(|_| Default::default()).collect(),
            written: Published::new(0),
        }
    }

    /// Adds a batch, in order. For its one writer only.
    pub fn push(&self, times: BatchTimes) {
        let at = self.written.get();
        let fields = [
            times.first_sequence,
            times.last_sequence,
            times.taken_at,
            times.appended_at,
            times.durable_at,
        ];
        for (word, field) in self.entry(at).iter().zip(fields) {
            // Releasing, so that who reads a new word also sees how many were written before it.
            word.store(field, Ordering::Release);
        }
        self.written.set(at + 1);
    }

    /// Batches logged so far.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    fn entry(&self, at: u64) -> &[AtomicU64; 5] {
        &self.entries[at as usize & (self.entries.len() - 1)]
    }

    /// Batch `at`, if it is written and still kept.
    fn get(&self, at: u64) -> Option<BatchTimes> {
        if at >= self.written() {
            return None;
        }
        let [
            first_sequence,
            last_sequence,
            taken_at,
            appended_at,
            durable_at,
        ] = self
            .entry(at)
            .each_ref()
            .map(|word| word.load(Ordering::Acquire));
        // The acquiring loads come first, so an entry that was overwritten meanwhile is seen here.
        (self.written() - at < self.entries.len() as u64).then_some(BatchTimes {
            first_sequence,
            last_sequence,
            taken_at,
            appended_at,
            durable_at,
        })
    }
}

/// Goes through a [`BatchLog`], once, forwards.
#[derive(Debug)]
pub struct BatchReader {
    log: Arc<BatchLog>,
    /// The batch last found, or the next to look at.
    at: u64,
}

impl BatchReader {
    /// A reader at the beginning of `log`.
    pub fn new(log: Arc<BatchLog>) -> BatchReader {
        BatchReader { log, at: 0 }
    }

    /// The batch that holds command `sequence`, if it was logged and is kept. Sequences must not fall
    /// from call to call.
    #[inline]
    pub fn batch_of(&mut self, sequence: u64) -> Option<BatchTimes> {
        loop {
            let Some(batch) = self.log.get(self.at) else {
                // Not there yet, or gone: where it is gone, go on with the oldest that is kept.
                let kept = self.log.entries.len() as u64 - 1;
                let oldest = self.log.written().saturating_sub(kept);
                if self.at >= oldest {
                    return None;
                }
                self.at = oldest;
                continue;
            };
            if sequence <= batch.last_sequence {
                // Of a batch that nobody logged there is no trace but this.
                return (batch.first_sequence <= sequence).then_some(batch);
            }
            self.at += 1;
        }
    }

    /// Batches logged so far.
    pub fn written(&self) -> u64 {
        self.log.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(first_sequence: u64, last_sequence: u64) -> BatchTimes {
        BatchTimes {
            first_sequence,
            last_sequence,
            taken_at: last_sequence * 10,
            appended_at: last_sequence * 10 + 1,
            durable_at: last_sequence * 10 + 2,
        }
    }

    #[test]
    fn a_command_is_found_in_its_batch_once_that_is_logged() {
        let log = Arc::new(BatchLog::new(8));
        let mut reader = BatchReader::new(log.clone());
        assert_eq!(reader.batch_of(1), None);
        for (first, last) in [(1, 4), (5, 5), (6, 9)] {
            log.push(times(first, last));
        }
        assert_eq!(reader.batch_of(1), Some(times(1, 4)));
        assert_eq!(reader.batch_of(4), Some(times(1, 4)));
        assert_eq!(reader.batch_of(5), Some(times(5, 5)));
        assert_eq!(reader.batch_of(6), Some(times(6, 9)));
        assert_eq!(reader.batch_of(10), None);
        log.push(times(12, 20));
        assert_eq!(reader.batch_of(11), None, "nobody logged it");
        assert_eq!(reader.batch_of(12), Some(times(12, 20)));
        assert_eq!(reader.written(), 4);
    }

    #[test]
    fn a_reader_that_fell_behind_goes_on_with_what_is_kept() {
        let log = Arc::new(BatchLog::new(3));
        let mut reader = BatchReader::new(log.clone());
        for last in 1..=10 {
            log.push(times(last, last));
        }
        // Kept are 8 to 10.
        assert_eq!(reader.batch_of(2), None);
        assert_eq!(reader.batch_of(9), Some(times(9, 9)));
    }

    #[test]
    fn what_a_reader_on_another_thread_finds_is_whole() {
        let log = Arc::new(BatchLog::new(3));
        const BATCHES: u64 = 200_000;
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=BATCHES).for_each(|last| log.push(times(last, last))));
            let mut reader = BatchReader::new(log.clone());
            let mut sequence = 1;
            while sequence < BATCHES {
                let Some(found) = reader.batch_of(sequence) else {
                    // Not written yet, or overwritten while we slept.
                    let kept = log.entries.len() as u64 - 1;
                    sequence = sequence.max((log.written() + 1).saturating_sub(kept));
                    std::hint::spin_loop();
                    continue;
                };
                assert_eq!(found, times(sequence, sequence));
                sequence += 1;
            }
        });
    }
}
