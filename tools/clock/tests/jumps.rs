//! The clock jumps, forwards and back, while a process lives by it; and it is right without a file.

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The library, which was built with this test.
fn library() -> PathBuf {
    let own = std::env::current_exe().expect("our own name");
    let beside = own.parent().expect("a directory");
    let places = [beside, beside.parent().expect("target")];
    let names = places.map(|place| place.join("libmillrace_clock.so"));
    let found = names.iter().find(|path| path.is_file());
    found.expect("cargo built the library").clone()
}

/// How far the clock of another process is ahead, seconds.
fn ahead(file: Option<&std::path::Path>) -> i64 {
    let mut date = Command::new("date");
    date.arg("+%s").env("LD_PRELOAD", library());
    if let Some(file) = file {
        date.env("MILLRACE_CLOCK_FILE", file);
    }
    let said = date.output().expect("date").stdout;
    let said: i64 = String::from_utf8_lossy(&said)
        .trim()
        .parse()
        .expect("seconds");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    said - now.as_secs() as i64
}

#[test]
fn the_wall_clock_is_where_the_file_says() {
    let path = std::env::temp_dir().join(format!("millrace-clock-{}", std::process::id()));
    for hours in [0i64, 24, -24] {
        let offset = hours * 3_600_000_000_000;
        std::fs::write(&path, offset.to_ne_bytes()).expect("a file");
        let ahead = ahead(Some(&path)) - hours * 3_600;
        assert!((-5..=5).contains(&ahead), "{hours} hours: {ahead} s off");
    }
    std::fs::remove_file(&path).expect("it was there");
    assert!((-5..=5).contains(&ahead(None)));
    assert!(
        (-5..=5).contains(&ahead(Some(&path))),
        "a file that is not there"
    );
}
