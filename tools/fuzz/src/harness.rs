//! What `cargo test` does with a target: every input of its corpus, then mutants of them for a
//! while. The same seed makes the same mutants. A failing input is written down before anything
//! else, and a file holds the present one all the time, for what ends the process at once (an
//! abort, a stack that is used up).

use crate::{Target, corpus, mutate};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For how long mutants are made where nothing else is said, milliseconds.
const MUTANTS_MS: u64 = 1_200;
/// An input that takes longer than this hangs.
const HANG_S: u64 = 60;
/// The seed of a run that names no other.
const SEED: u64 = 1;

/// Runs a target over its corpus and over mutants of it. `scratch` is a directory for the files
/// that name a failing input.
///
/// - `MILLRACE_FUZZ_SECONDS`: how long mutants are made, instead of a second.
/// - `MILLRACE_FUZZ_SEED`: another seed, and so other mutants.
/// - `MILLRACE_FUZZ_INPUT`: this file, and nothing else.
pub fn check(target: &Target, scratch: &Path) {
    let mut run = Run::new(*target, scratch);
    if let Some(path) = std::env::var_os("MILLRACE_FUZZ_INPUT") {
        run.one(&fs::read(&path).expect("the file of MILLRACE_FUZZ_INPUT"));
        return;
    }
    let kept = kept(target.name);
    assert!(!kept.is_empty(), "{} has no corpus", target.name);
    for (path, input) in &kept {
        run.what = format!("{}", path.display());
        run.one(input);
    }
    let seed = number("MILLRACE_FUZZ_SEED").unwrap_or(SEED);
    let time = number("MILLRACE_FUZZ_SECONDS").map_or(MUTANTS_MS, |seconds| 1_000 * seconds);
    let until = Instant::now() + Duration::from_millis(time);
    let inputs: Vec<Vec<u8>> = kept.into_iter().map(|(_, input)| input).collect();
    let mut mutants = 0u64;
    while Instant::now() < until {
        let mut random =
            Pcg64Mcg::seed_from_u64(seed ^ mutants.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let input = mutate::input(&mut random, &inputs, target.len_max);
        run.what = format!("mutant {mutants} of seed {seed}");
        run.one(&input);
        mutants += 1;
    }
    println!(
        "{}: {} inputs of the corpus, {mutants} mutants of seed {seed}, no failure",
        target.name,
        inputs.len()
    );
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// The corpus of a target, in the order of the names.
pub fn kept(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(corpus(name)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let input = fs::read(&path).expect("a readable input");
        (path, input)
    };
    paths.into_iter().map(read).collect()
}

struct Run {
    target: Target,
    /// Where the present input comes from.
    what: String,
    scratch: PathBuf,
    present: File,
    present_path: PathBuf,
    watch: Arc<Watch>,
}

/// Ends the process where an input hangs.
struct Watch {
    started: Instant,
    /// Seconds from `started` to the begin of the present input.
    begun: AtomicU64,
    over: AtomicBool,
}

impl Run {
    fn new(target: Target, scratch: &Path) -> Run {
        let present_path = scratch.join(format!("{}-{}.running", target.name, std::process::id()));
        let present = File::create(&present_path).expect("a scratch file");
        let watch = Arc::new(Watch {
            started: Instant::now(),
            begun: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        watch.clone().begin(target.name, present_path.clone());
        Run {
            target,
            what: "the named input".into(),
            scratch: scratch.to_owned(),
            present,
            present_path,
            watch,
        }
    }

    fn one(&mut self, input: &[u8]) {
        let input = &input[..input.len().min(self.target.len_max)];
        self.watch
            .begun
            .store(self.watch.started.elapsed().as_secs(), Ordering::Relaxed);
        self.present
            .set_len(input.len() as u64)
            .expect("a scratch file");
        self.present.write_all_at(input, 0).expect("a scratch file");
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input))) else {
            return;
        };
        let hash = blake3::hash(input).to_hex();
        let path = self
            .scratch
            .join(format!("{}-{}", self.target.name, &hash[..16]));
        fs::write(&path, input).expect("a scratch file");
        eprintln!(
            "{} failed: {}; {}",
            self.target.name,
            self.what,
            again(self.target.name, &path)
        );
        resume_unwind(panic);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.watch.over.store(true, Ordering::Relaxed);
        let _ = fs::remove_file(&self.present_path);
    }
}

impl Watch {
    fn begin(self: Arc<Watch>, name: &'static str, present: PathBuf) {
        std::thread::spawn(move || {
            while !self.over.load(Ordering::Relaxed) {
                let now = self.started.elapsed().as_secs();
                if now > self.begun.load(Ordering::Relaxed) + HANG_S {
                    eprintln!("{name} hangs; {}", again(name, &present));
                    std::process::abort();
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
    }
}

/// The command that runs one input again.
fn again(name: &str, path: &Path) -> String {
    format!(
        "again with:\n  MILLRACE_FUZZ_INPUT={} cargo test --locked -p millrace-fuzz -- {name}",
        path.display()
    )
}
