//! Settings: the configuration of a node and the limits beside a journal.
//!
//! - No text makes a reader panic.
//! - What is read is in range, and written down again it reads the same.

use crate::source::Source;
use millrace::config::Config;
use millrace::replay::limits_file;
use std::path::Path;

/// One input: which reader, and a text.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let reader = source.byte() % 3;
    let text = String::from_utf8_lossy(source.rest()).into_owned();
    match reader {
        0 => config(&text),
        1 => limits(&text),
        // With the checksum that its lines ask for.
        _ => limits(&limits_file::sealed(&text)),
    }
}

fn config(text: &str) {
    match Config::parse(text, Path::new("millrace.toml")) {
        Ok(config) => {
            config.check().expect("checked when it was read");
            assert!(config.limits.bytes_max() > 0);
        }
        Err(error) => {
            let why = error.to_string();
            assert!(!why.is_empty() && !why.contains('\n'), "{why:?}");
        }
    }
}

fn limits(text: &str) {
    match limits_file::parse(text) {
        Ok(limits) => {
            limits.check().expect("a journal's limits are in range");
            let again = limits_file::parse(&limits_file::text_of(&limits).expect("plain numbers"));
            assert_eq!(again.as_ref(), Ok(&limits));
        }
        Err(why) => assert!(!why.is_empty() && !why.contains('\n'), "{why:?}"),
    }
}
