//! The wall clock of a node under torture: a library that is preloaded, and the file it reads.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A clock that can be moved.
pub struct Clock {
    library: PathBuf,
    path: PathBuf,
    file: File,
    offset_ns: i64,
}

impl Clock {
    /// A clock that is right, or `None` where the library was not built.
    pub fn new(dir: &Path) -> Option<Clock> {
        let library = library()?;
        let path = dir.join("clock");
        let file = File::create(&path).ok()?;
        file.write_all_at(&0i64.to_ne_bytes(), 0).ok()?;
        Some(Clock {
            library,
            path,
            file,
            offset_ns: 0,
        })
    }

    /// What a process needs in its environment to live by it.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [
            ("LD_PRELOAD", &self.library),
            ("MILLRACE_CLOCK_FILE", &self.path),
        ]
    }

    /// Moves it, forwards or back, at this moment. It stays within a day of what is right.
    pub fn jump(&mut self, by_ns: i64) -> Result<(), String> {
        const DAY_NS: i64 = 86_400_000_000_000;
        self.offset_ns = (self.offset_ns + by_ns).clamp(-DAY_NS, DAY_NS);
        let written = self.file.write_all_at(&self.offset_ns.to_ne_bytes(), 0);
        written.map_err(|error| format!("cannot move the clock: {error}"))
    }
}

/// Beside this program, or among what its build made.
pub fn library() -> Option<PathBuf> {
    const NAME: &str = "libmillrace_clock.so";
    let own = std::env::current_exe().ok()?;
    let beside = own.parent()?;
    let places = [
        beside.join(NAME),
        beside.join("deps").join(NAME),
        beside.parent()?.join(NAME),
    ];
    places.into_iter().find(|path| path.is_file())
}
