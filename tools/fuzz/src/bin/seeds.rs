//! Writes the seeds of the corpus anew. What broke something once (`found-*`) stays as it is.

use millrace_fuzz::{TARGETS, corpus, seeds};
use std::fs;

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let dir = corpus(target.name);
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("seed-") {
                fs::remove_file(entry.path())?;
            }
        }
    }
    let seeds = seeds::all();
    let mut bytes = 0;
    for (target, name, input) in &seeds {
        let target = millrace_fuzz::target(target).expect("a target");
        let input = &input[..input.len().min(target.len_max)];
        bytes += input.len();
        fs::write(corpus(target.name).join(format!("seed-{name}")), input)?;
    }
    println!("{} seeds, {bytes} bytes", seeds.len());
    Ok(())
}
