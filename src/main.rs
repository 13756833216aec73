//! The `millrace` binary: see `millrace --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace::cli::main()
}
