//! `millrace serve`: a node.

use super::terminal::{Progress, grouped};
use super::{CliError, settings};
use crate::config::Config;
use crate::node::{Node, StartError};
use crate::process::allow_open_files;
use crate::replay::recovery::Listener;
use std::net::SocketAddr;

/// Run a node: listen for clients, journal, execute, answer.
///
/// Stop it with Ctrl-C or SIGTERM: it answers what it has taken, syncs and ends. After any other
/// end it recovers from its journal at the next start.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  millrace serve --dir /var/lib/millrace --listen 127.0.0.1:7411"
)]
pub(crate) struct Args {
    #[command(flatten)]
    node: settings::NodeArgs,
    /// Address of the binary protocol; port 0 takes a free one
    #[arg(long, value_name = "ADDR", value_parser = settings::address)]
    listen: Option<SocketAddr>,
    /// Address for HTTP; not there in this release
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if args.http.is_some() {
        return Err(CliError::Usage(
            "--http is not supported in this release; leave it out".into(),
        ));
    }
    let mut config = args.node.config()?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    raise_open_files(&config);
    let mut bar = RecoveryBar::default();
    let stopped = Node::run_until_signal(&config, &mut bar, |node| {
        for note in &node.recovery().notes {
            eprintln!("millrace: {note}");
        }
        say!("{node}");
    });
    match stopped {
        Ok(stopped) => {
            let commands = grouped(stopped.engine.sequence());
            say!("stopped after {commands} commands; everything answered is in the journal");
            Ok(())
        }
        Err(error @ (StartError::Config(_) | StartError::Cores(_))) => {
            Err(CliError::Usage(error.to_string()))
        }
        Err(error) => Err(CliError::failed(error)),
    }
}

/// Files that a node has open beside its connections, those included that read that there is no room.
const OTHER_FILES: u64 = 128;

/// Room for every connection that may be, as far as this process may make it by itself.
fn raise_open_files(config: &Config) {
    let wanted = config.gateway.connections as u64 + OTHER_FILES;
    let allowed = allow_open_files(wanted);
    if allowed < wanted {
        eprintln!(
            "millrace: gateway.connections = {} needs {wanted} open files and this process may have {allowed}: \
             connections beyond that wait; raise ulimit -n",
            config.gateway.connections
        );
    }
}

/// Shows a long recovery: the snapshot, then the commands behind it.
#[derive(Default)]
struct RecoveryBar {
    snapshot: Option<Progress>,
    commands: Option<Progress>,
}

impl Listener for RecoveryBar {
    fn loading(&mut self, passed: u64, of: u64) {
        let bar = self
            .snapshot
            .get_or_insert_with(|| Progress::of_bytes(Some(of), "of snapshot read"));
        // A damaged one is passed over for one of another size.
        bar.set_total(of);
        bar.at(passed);
        if passed == of {
            self.snapshot = None;
        }
    }

    fn recovering(&mut self, sequence: u64, last_sequence: u64) {
        self.snapshot = None;
        let bar = self
            .commands
            .get_or_insert_with(|| Progress::new(last_sequence, "commands"));
        bar.at(sequence);
        if sequence == last_sequence {
            self.commands = None;
        }
    }
}
