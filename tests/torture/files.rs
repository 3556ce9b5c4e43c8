//! What a power loss leaves of files: all that was synced, and any part of what was not.
//!
//! The log is written by `files.c`; it says what it means.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::Layer;

/// The disk writes sectors of this size whole, or not at all.
const SECTOR: usize = 512;

/// Files that are watched.
pub struct WatchedFiles {
    layer: Layer,
    prefix: PathBuf,
}

/// Which of the writes that were not synced a power loss may leave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Any of them, also a half: what SQLite reckons with.
    Any,
    /// The first ones: what Redis reckons with for a file that it only appends to.
    First,
}

/// What was done to a file.
enum Deed<'a> {
    Write(&'a [u8]),
    Truncate,
    Unlink,
}

/// One record of the log.
struct Entry<'a> {
    /// Where it begins in the log.
    at: u64,
    file: &'a str,
    offset: u64,
    deed: Deed<'a>,
}

impl WatchedFiles {
    /// Watches files whose names begin so.
    ///
    /// # Errors
    /// Why that is not possible here.
    pub fn new(prefix: &Path) -> Result<Self, String> {
        Ok(Self { layer: Layer::build("torture/files")?, prefix: prefix.to_owned() })
    }

    /// What the processes must have in their environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let name = |path: PathBuf| path.display().to_string();
        vec![
            self.layer.preload(),
            ("TORTURE_FILES".into(), name(self.prefix.clone())),
            ("TORTURE_LOG".into(), name(self.layer.path("log"))),
            ("TORTURE_FULL".into(), name(self.layer.path("full"))),
        ]
    }

    /// Lets the disk be full, or have room again.
    pub fn set_full(&self, full: bool) {
        let flag = self.layer.path("full");
        match full {
            true => std::fs::write(flag, "").unwrap(),
            false => std::fs::remove_file(flag).unwrap(),
        }
    }

    /// Takes all that was written and not synced out of the files again, but for a part that the
    /// dice choose. Whoever used them must be dead. Returns how many writes were not synced.
    pub fn lose_power(&self, before: &Snapshot, kept: Kept, dice: &mut fastrand::Rng) -> usize {
        let log = std::fs::read(self.layer.path("log")).unwrap_or_default();
        let (entries, synced) = read(&log);
        let mut files = before.files.clone();
        let mut unsynced = 0;
        // As luck would have it, all of it may be there, or nothing, or a part.
        let share = [0.0, 0.5, 1.0][dice.usize(..3)];
        let mut ended = false;
        for Entry { at, file, offset, deed } in entries {
            // A removal is one of the directory's.
            let home = match deed {
                Deed::Unlink => Path::new(file).parent().and_then(Path::to_str).unwrap_or_default(),
                _ => file,
            };
            let durable = synced.get(home).is_some_and(|until| at < *until);
            unsynced += usize::from(!durable);
            let lost = !durable && dice.f64() >= share;
            ended |= lost && kept == Kept::First;
            if lost || (ended && !durable) {
                continue;
            }
            let offset = offset as usize;
            let content = files.entry(file.to_owned()).or_default();
            match deed {
                Deed::Write(data) => {
                    // A write that was under way may be torn.
                    let torn = !durable && kept == Kept::Any && dice.u8(..4) == 0;
                    let end = if torn { data.len() / 2 / SECTOR * SECTOR } else { data.len() };
                    content.resize(content.len().max(offset + end), 0);
                    content[offset..offset + end].copy_from_slice(&data[..end]);
                }
                Deed::Truncate => content.resize(offset, 0),
                Deed::Unlink => drop(files.remove(file)),
            }
        }
        for name in self.present() {
            std::fs::remove_file(name).unwrap();
        }
        for (name, content) in &files {
            std::fs::write(name, content).unwrap();
        }
        unsynced
    }

    /// The files as they are, while nobody uses them; begins a new log.
    pub fn snapshot(&self) -> Snapshot {
        let _ = std::fs::remove_file(self.layer.path("log"));
        // What processes share in memory is gone with them.
        let kept = self.present().into_iter().filter(|name| !name.ends_with("-shm"));
        let files = kept.map(|name| (name.clone(), std::fs::read(&name).unwrap()));
        Snapshot { files: files.collect() }
    }

    fn present(&self) -> Vec<String> {
        let directory = self.prefix.parent().unwrap();
        let prefix = self.prefix.display().to_string();
        let Ok(entries) = std::fs::read_dir(directory) else { return vec![] };
        let names = entries.map(|entry| entry.unwrap().path().display().to_string());
        names.filter(|name| name.starts_with(&prefix)).collect()
    }
}

/// What all watched files held at a time when nobody used them.
#[derive(Clone, Default)]
pub struct Snapshot {
    files: BTreeMap<String, Vec<u8>>,
}

/// What each record begins with; see `files.c`.
const MARK: [u8; 8] = 0x9d1f_0c5e_b7a3_e641_u64.to_ne_bytes();

/// The entries of a log, and up to where in the log each file's are on disk.
fn read(log: &[u8]) -> (Vec<Entry<'_>>, BTreeMap<&str, u64>) {
    const HEAD: usize = 32;
    let (mut entries, mut synced) = (vec![], BTreeMap::new());
    let mut at = 0;
    while let Some(head) = log.get(at..at + HEAD) {
        let short = |from: usize| u32::from_ne_bytes(head[from..from + 4].try_into().unwrap());
        let long = |from: usize| u64::from_ne_bytes(head[from..from + 8].try_into().unwrap());
        let (operation, offset, length) = (short(8), long(16), long(24));
        let name_end = at + HEAD + short(12) as usize;
        let data_end = name_end + if operation == 1 { length as usize } else { 0 };
        // A record that was cut off has the next one in it, or the end of the log.
        let next = log.get(data_end..).map(|rest| rest.is_empty() || rest.starts_with(&MARK));
        if next != Some(true) {
            let behind = log[at + 1..].windows(MARK.len()).position(|bytes| bytes == MARK);
            let Some(behind) = behind else { break };
            at += 1 + behind;
            continue;
        }
        let file = std::str::from_utf8(&log[at + HEAD..name_end]).unwrap();
        let begin = at as u64;
        match operation {
            1 => {
                let deed = Deed::Write(&log[name_end..data_end]);
                entries.push(Entry { at: begin, file, offset, deed });
            }
            2 => {
                let until = synced.entry(file).or_default();
                *until = offset.max(*until);
            }
            3 => entries.push(Entry { at: begin, file, offset: length, deed: Deed::Truncate }),
            4 => entries.push(Entry { at: begin, file, offset, deed: Deed::Unlink }),
            other => panic!("there is no operation {other}: the log is broken"),
        }
        at = data_end;
    }
    (entries, synced)
}
