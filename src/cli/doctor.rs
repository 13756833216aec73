//! `millrace doctor`: is this host fit for a node, and what would make it better?

use super::CliError;
use super::settings::NodeArgs;
use crate::doctor::{Finding, Host, Verdict, examine};

/// Check this host: cores, memory, network and disk, and say what to change. Reads and measures for
/// about a second; changes nothing. Exit 0 when a node can keep its promises here, 1 when not.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace doctor
  millrace doctor --dir /var/lib/millrace --durability disk --cores 2,3")]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let config = args.node.config()?;
    let findings = examine(&Host::default(), &config);
    if args.json {
        say!("{}", serde_json::json!({ "findings": findings }));
    } else {
        findings.iter().for_each(print);
    }
    let count = |verdict| findings.iter().filter(|it| it.verdict == verdict).count();
    let (bad, advice) = (count(Verdict::Bad), count(Verdict::Advice));
    if bad > 0 {
        return Err(CliError::Failed(format!(
            "{bad} of {} things would keep a node from its promises",
            findings.len()
        )));
    }
    if !args.json {
        say!("{} things looked at, {advice} to improve", findings.len());
    }
    Ok(())
}

fn print(finding: &Finding) {
    let mark = match finding.verdict {
        Verdict::Good => "good  ",
        Verdict::Advice => "advice",
        Verdict::Bad => "BAD   ",
    };
    say!(
        "{mark}  {:<8} {:<13} {}",
        finding.area,
        finding.what,
        finding.found
    );
    if !finding.change.is_empty() {
        say!("{:>32}{}", "-> ", finding.change);
    }
}
