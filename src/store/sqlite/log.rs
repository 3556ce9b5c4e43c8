//! SQLite's write-ahead log as a file: how it is brought to disk, and made as long as it will be.
//!
//! A file that grows costs a sync the new length beside the data: of 4 KiB, appended, a sync takes twice the time
//! and processor of one that overwrites. So the log is filled with zeros once. SQLite takes no zeros for a page of
//! its own: each has the salt of its generation and a checksum, and page 0 does not exist.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::FileIdentity;

/// How many pages (of 4 KiB) the log has before they are brought into the file. Most of a busy
/// store's pages are written many times over, and go into the file once.
pub const PAGES: u32 = 4_000;
/// How long the log is from the beginning, in bytes: its pages with their headers, and what the transaction that
/// goes past them may add.
const FILLED: u64 = (PAGES as u64 + 500) * (4096 + 24);

/// The log of a store that is open.
pub struct Log {
    file: File,
    store: PathBuf,
    identity: FileIdentity,
}

impl Log {
    /// SQLite keeps it for as long as a connection is open, and has no lock on it that closing this would lose.
    pub fn open(store: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path_of(store))?;
        Ok(Self { file, store: store.to_owned(), identity: FileIdentity::of(store)? })
    }

    /// Brings it to disk, and makes sure that it and the store still have a place there.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        #[cfg(unix)]
        let is_gone = std::os::unix::fs::MetadataExt::nlink(&self.file.metadata()?) == 0;
        #[cfg(not(unix))]
        let is_gone = false;
        if is_gone || self.identity.is_gone(&self.store) {
            return Err(io::Error::other("the file was removed while the bus was using it"));
        }
        Ok(())
    }

    /// Makes it as long as it will be. Nobody writes meanwhile: this holds the lock that a change needs. A disk that has
    /// no room for it is no error: the log grows then as it is needed.
    pub fn fill(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        if let Err(error) = self.extend() {
            tracing::debug!(%error, "failed to fill SQLite's log beforehand");
        }
        connection.execute_batch("COMMIT")
    }

    /// What is below the end of the file may be pages that count.
    fn extend(&self) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(before))?;
        let mut zeros = io::repeat(0).take(FILLED.saturating_sub(before));
        if let Err(error) = io::copy(&mut zeros, &mut file) {
            self.file.set_len(before)?;
            return Err(error);
        }
        self.file.sync_all()
    }
}

pub fn path_of(store: &Path) -> PathBuf {
    let mut log = store.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::schema;
    use super::*;

    const PAGE: u64 = 4096 + 24;

    fn numbers(db: &Connection) -> Vec<i64> {
        let numbers = db
            .prepare("SELECT number FROM numbers ORDER BY number")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>();
        numbers.unwrap()
    }

    /// What a machine has after it lost power: the files as far as they were on disk, and nothing of what was
    /// shared in memory.
    fn after_power_loss(store: &Path, log: &[u8]) -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("t.db");
        fs::copy(store, &copy).unwrap();
        fs::write(path_of(&copy), log).unwrap();
        let connection = schema::connect(&copy).unwrap();
        let state: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(state, "ok");
        (directory, connection)
    }

    #[test]
    fn what_was_committed_is_read_up_to_where_zeros_or_older_pages_begin() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("t.db");
        let connection = schema::connect(&store).unwrap();
        connection.execute_batch("CREATE TABLE numbers (number INTEGER)").unwrap();
        let log = Log::open(&store).unwrap();
        log.fill(&connection).unwrap();
        log.fill(&connection).unwrap();
        let length = || fs::metadata(path_of(&store)).unwrap().len();
        assert_eq!(length(), FILLED);
        let insert = |number: i64| {
            connection.execute("INSERT INTO numbers VALUES (?1)", [number]).unwrap();
        };
        for generation in 0..2 {
            for number in 1..=20 {
                insert(generation * 100 + number);
            }
            let whole = fs::read(path_of(&store)).unwrap();
            let (_directory, read) = after_power_loss(&store, &whole);
            let expected = numbers(&connection);
            assert_eq!(numbers(&read), expected);
            let used = (length_used(&whole) - 32) / PAGE;
            assert!((20..40).contains(&used), "one page a change or so: {used}");
            // The last changes, each cut off anywhere, by zeros or by what an older page has there.
            let mut lost = 0;
            for cut in (0..5 * PAGE).step_by(500) {
                for rest in [0, 0xa5] {
                    let from = (32 + used * PAGE - cut) as usize;
                    let mut torn = whole.clone();
                    torn[from..].fill(rest);
                    let (_directory, read) = after_power_loss(&store, &torn);
                    let left = numbers(&read);
                    assert_eq!(left, expected[..left.len()], "a beginning of what was committed");
                    let pages = cut.div_ceil(PAGE) as usize;
                    assert_eq!(expected.len() - left.len(), pages, "{cut} bytes are missing");
                    lost = lost.max(pages);
                }
            }
            assert_eq!(lost, 5);
            // The log begins again, over the pages of this generation.
            let checkpoint = "PRAGMA wal_checkpoint(RESTART)";
            connection.query_row(checkpoint, [], |row| row.get::<_, i64>(0)).unwrap();
        }
        assert_eq!(length(), FILLED, "it is not cut off, and does not grow");
    }

    /// Where the pages of the generation end that the log is in, by their salt.
    fn length_used(log: &[u8]) -> u64 {
        let salt = &log[16..24];
        let pages = log[32..].chunks_exact(PAGE as usize);
        32 + PAGE * pages.take_while(|page| &page[8..16] == salt).count() as u64
    }
}
