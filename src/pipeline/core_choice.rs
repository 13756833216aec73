//! Which cores a node may use, as an operator says it.

/// Which cores a node may use.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum CoreChoice {
    /// All the process may run on but one, pinned.
    #[default]
    Auto,
    /// As many, not pinned: for tests, and where others schedule.
    Unpinned,
    /// These, pinned.
    List(Vec<usize>),
}

impl std::str::FromStr for CoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<CoreChoice, String> {
        match text {
            "auto" => return Ok(CoreChoice::Auto),
            "unpinned" => return Ok(CoreChoice::Unpinned),
            _ => {}
        }
        let cores: Result<Vec<usize>, _> =
            text.split(',').map(|core| core.trim().parse()).collect();
        match cores {
            Ok(cores) if !cores.is_empty() => Ok(CoreChoice::List(cores)),
            _ => Err(format!(
                "cores \"{text}\" is not \"auto\", \"unpinned\" or a list such as 0,1,2"
            )),
        }
    }
}

/// A core that was asked for and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreError {
    /// This process may not run on it, or the machine has none such.
    Missing {
        /// The core asked for.
        core: usize,
        /// The cores there are.
        there: Vec<usize>,
    },
    /// Named twice.
    Twice(usize),
}

impl std::fmt::Display for CoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CoreError::Missing { core, there } => write!(
                f,
                "core {core} is not there; this process may use {}",
                list(there)
            ),
            CoreError::Twice(core) => write!(f, "core {core} is listed twice"),
        }
    }
}

impl std::error::Error for CoreError {}

/// The list, if this process has every core of it, once.
pub(super) fn checked<'a>(
    listed: &'a [usize],
    allowed: &[usize],
) -> Result<&'a [usize], CoreError> {
    for (at, core) in listed.iter().enumerate() {
        if !allowed.contains(core) {
            return Err(CoreError::Missing {
                core: *core,
                there: allowed.to_vec(),
            });
        }
        if listed[..at].contains(core) {
            return Err(CoreError::Twice(*core));
        }
    }
    Ok(listed)
}

/// `1,2,3`.
pub(super) fn list(cores: &[usize]) -> String {
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    cores.join(",")
}
