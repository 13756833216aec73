//! The servers of the usual design, started and stopped by `servers.sh`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Redis, RabbitMQ and MariaDB on loopback; stopped when dropped.
pub struct Servers {
    script: PathBuf,
    dir: PathBuf,
}

impl Servers {
    /// Installs what is missing and starts all three in `dir`.
    pub fn start(script: &Path, dir: &Path) -> Result<Servers, String> {
        let servers = Servers {
            script: script.into(),
            dir: dir.join("servers"),
        };
        std::fs::create_dir_all(&servers.dir).map_err(|error| error.to_string())?;
        // The directory is private; the database runs as a user of its own.
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|error| error.to_string())?;
        let (script, own) = (servers.script.clone(), servers.dir.clone());
        let whole = dir.to_owned();
        millrace::process::when_interrupted(move || {
            // Nothing can be done about a server that does not stop.
            let _ = Command::new(script).arg("stop").arg(own).status();
            let _ = std::fs::remove_dir_all(whole);
        })
        .map_err(|error| error.to_string())?;
        servers.script(&["install"])?;
        servers.script(&["start", &servers.dir.display().to_string()])?;
        Ok(servers)
    }

    fn script(&self, words: &[&str]) -> Result<(), String> {
        let status = Command::new(&self.script)
            .args(words)
            .status()
            .map_err(|error| format!("cannot run {}: {error}", self.script.display()))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{} {words:?} failed", self.script.display()))
        }
    }

    /// Where Redis listens.
    pub fn redis(&self) -> String {
        format!("redis://127.0.0.1:{}/", port("REDIS_PORT", 27_379))
    }

    /// Where RabbitMQ listens.
    pub fn amqp(&self) -> String {
        format!(
            "amqp://guest:guest@127.0.0.1:{}/%2f",
            port("AMQP_PORT", 25_672)
        )
    }

    /// Where MariaDB listens.
    pub fn sql(&self) -> String {
        let port = port("SQL_PORT", 23_306);
        format!("mysql://baseline:baseline@127.0.0.1:{port}/baseline")
    }
}

fn port(variable: &str, otherwise: u16) -> u16 {
    let value = std::env::var(variable).ok();
    value
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Nothing can be done about a server that does not stop.
        let _ = self.script(&["stop", &self.dir.display().to_string()]);
    }
}
