//! From a directory to a writer's parts: refuse strangers, lock, survey, repair or begin, start the
//! preparer.

use std::sync::Arc;

use crate::archived;
use crate::error::{Defect, IoFault, OpenError, Problem, ReadError};
use crate::format::{self, FRAMES_OFFSET, LINK_OFFSET, Link, PAGE_BYTES, SPARE_NAME};
use crate::mapping::Mapping;
use crate::options::{Durability, Options};
use crate::preparer::{self, Preparer, SpareSpec};
use crate::recovery::{self, Recovered, Survey};
use crate::segment::{self, Segment};
use crate::storage::{Access, Storage};

/// What a writer is put together from.
pub(crate) struct Opened {
    pub survey: Survey,
    /// The tail segment, writable, zero from the survey's place on.
    pub segment: Segment,
    pub preparer: Preparer,
    pub lock: Box<dyn Send>,
}

pub(crate) fn open(
    storage: &Arc<dyn Storage>,
    options: &Options,
    checked: &mut dyn FnMut(u64),
) -> Result<Opened, OpenError> {
    options.check(2 * PAGE_BYTES as u64)?;
    refuse_strangers(&**storage)?;
    let lock = take_lock(&**storage)?;
    refuse_newer(&**storage, options.writer_release)?;
    checked(0);
    let (survey, segment) = match recovery::survey(&**storage, options.check_from, checked)? {
        Some(survey) => {
            let segment = recovery::repair(&**storage, &survey)?;
            (survey, segment)
        }
        None => begin_journal(&**storage, options)?,
    };
    let spec = spare_spec(options, survey.journal_id);
    let next = survey.index + 1;
    let started = Preparer::start(storage.clone(), spec, next, options.background);
    let preparer = started.map_err(|error| {
        let advice = "check the limit on threads";
        OpenError::Io(IoFault::new(
            "start a thread for",
            storage.path_of(""),
            error,
            advice,
        ))
    })?;
    Ok(Opened {
        survey,
        segment,
        preparer,
        lock,
    })
}

/// Recovers a journal as [`Writer::open`](crate::Writer::open) does, without going on to write: takes
/// the lock, judges every byte from `check_from` on, cuts a torn tail, syncs, and gives the lock back.
pub fn recover_in(storage: &dyn Storage, check_from: u64) -> Result<Recovered, OpenError> {
    refuse_strangers(storage)?;
    let _lock = take_lock(storage)?;
    let Some(survey) = recovery::survey(storage, check_from, &mut |_| ())? else {
        let path = storage.path_of("");
        return Err(OpenError::Defect(Defect::NotAJournal { path, found: None }));
    };
    recovery::repair(storage, &survey)?;
    Ok(survey.recovered)
}

/// What [`Writer::open`](crate::Writer::open) would find in a directory with that `check_from`, without its lock and
/// without changing anything; `None` where there is no journal.
pub fn judge(dir: &std::path::Path, check_from: u64) -> Result<Option<Recovered>, ReadError> {
    let storage = crate::storage::MappedFiles::at(dir);
    let survey = recovery::survey(&storage, check_from, &mut |_| ())?;
    Ok(survey.map(|survey| survey.recovered))
}

/// The latest release of the program that wrote a segment of the journal in a directory, as its writers
/// called themselves in their options; 0 where there is no segment.
pub fn newest_release(dir: &std::path::Path) -> Result<u16, ReadError> {
    let newest = newest(&crate::storage::MappedFiles::at(dir))?;
    Ok(newest.map_or(0, |(release, _)| release))
}

fn newest(storage: &dyn Storage) -> Result<Option<(u16, std::path::PathBuf)>, Problem> {
    let (indices, _) = segment::list(storage)?;
    let mut newest = None;
    for index in indices {
        // What is wrong with a segment that does not open is for those who read it to say.
        let Ok(segment) = Segment::open(storage, index, Access::Follow) else {
            continue;
        };
        let release = segment.label.writer_release;
        if newest.as_ref().is_none_or(|(known, _)| release > *known) {
            newest = Some((release, segment.path));
        }
    }
    Ok(newest)
}

fn refuse_newer(storage: &dyn Storage, ours: u16) -> Result<(), OpenError> {
    match newest(storage)? {
        Some((found, path)) if found > ours => Err(OpenError::Defect(Defect::NewerRelease {
            path,
            found,
            ours,
        })),
        _ => Ok(()),
    }
}

/// Files that are not ours, and none of ours: somebody pointed at the wrong directory.
fn refuse_strangers(storage: &dyn Storage) -> Result<(), OpenError> {
    match segment::list(storage)? {
        (indices, Some(name)) if indices.is_empty() => {
            archived::refuse_emptied(storage)?;
            let path = storage.path_of("");
            Err(OpenError::Defect(Defect::NotAJournal {
                path,
                found: Some(name),
            }))
        }
        _ => Ok(()),
    }
}

fn take_lock(storage: &dyn Storage) -> Result<Box<dyn Send>, OpenError> {
    let path = storage.path_of(format::LOCK_NAME);
    storage.lock().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::DirectoryInUse { path },
        _ => OpenError::Io(IoFault::new(
            "lock",
            path,
            error,
            "check the directory's permissions",
        )),
    })
}

fn spare_spec(options: &Options, journal_id: [u8; 16]) -> SpareSpec {
    SpareSpec {
        segment_bytes: options.segment_bytes,
        writer_release: options.writer_release,
        journal_id,
        unsynced: options.durability == Durability::Process,
    }
}

/// The first segment: linked to nothing and synced before it gets its name.
fn begin_journal(storage: &dyn Storage, options: &Options) -> Result<(Survey, Segment), OpenError> {
    let name = format::segment_name(1);
    let make = || {
        let mut journal_id = [0; 16];
        storage.draw_id(&mut journal_id)?;
        // Nobody is there yet who could be disturbed, and somebody waits.
        storage.hurry(true);
        let spare = preparer::make_spare(storage, &spare_spec(options, journal_id), 1);
        storage.hurry(false);
        let spare = spare?;
        write_link(
            spare.file.mapping(),
            &Link::sealed(spare.label.crc, 1, 0, [0; 32]),
        );
        spare.file.sync(0..FRAMES_OFFSET)?;
        storage.rename(SPARE_NAME, &name)?;
        storage.sync_names()
    };
    make().map_err(|error| {
        let advice = "check the space and the permissions there";
        OpenError::Io(IoFault::new(
            "make the first segment",
            storage.path_of(&name),
            error,
            advice,
        ))
    })?;
    let mut survey =
        recovery::survey(storage, 1, &mut |_| ())?.expect("the first segment was just made");
    survey.recovered.created = true;
    let segment = recovery::repair(storage, &survey)?;
    Ok((survey, segment))
}

/// Writes a link into a spare, its checksum last: a page written back half-way holds no link, not a
/// wrong one.
pub(crate) fn write_link(map: &Mapping, link: &Link) {
    let bytes = zerocopy::IntoBytes::as_bytes(link);
    let (body, last) = bytes.split_at(size_of::<Link>() - 8);
    let last = u64::from_le_bytes(last.try_into().expect("eight bytes are left"));
    // SAFETY: the spare is writable and this thread's alone until it is renamed.
    unsafe {
        map.put(LINK_OFFSET, body);
        map.publish(LINK_OFFSET + body.len(), last);
    }
}
