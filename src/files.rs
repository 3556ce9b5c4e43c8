//! Files: how many a process may have open, sockets among them, and which are for its own eyes only.

use std::error::Error;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::Path;

use anyhow::bail;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::causes;

/// What a process has open beside connections and deliveries: its store, its log, what it listens on, and
/// what looking up a name needs for a moment.
const OF_ITS_OWN: u64 = 40;
/// The fewest that a process is of use with.
const LEAST: u64 = OF_ITS_OWN + 24;
/// What is taken for no limit.
const PLENTY: u64 = 1 << 20;

/// How many connections and deliveries there may be at once, so that neither takes the files of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileShares {
    pub connections: usize,
    pub deliveries: usize,
}

impl FileShares {
    /// Raises the limit as far as the process may, and shares what it has out.
    ///
    /// # Errors
    /// If the process can be of no use with so few.
    pub fn of_this_process(connections: usize, deliveries: usize) -> anyhow::Result<Self> {
        let limit = raise_limit();
        if limit < LEAST {
            bail!(
                "this process may have {limit} files and sockets open at once, and needs {LEAST} or more: \
                 raise the limit (`ulimit -n 65536` in the shell, LimitNOFILE= in a unit of systemd)"
            );
        }
        let shares = Self::within(limit, connections, deliveries);
        if shares.connections < connections || shares.deliveries < deliveries {
            tracing::warn!(
                limit,
                connections = shares.connections,
                deliveries = shares.deliveries,
                "few files may be open at once, so that fewer connections and deliveries are than set: \
                 raise the limit (`ulimit -n`, LimitNOFILE=)"
            );
        }
        Ok(shares)
    }

    /// Deliveries have the half at least: they are what the bus is there for.
    fn within(limit: u64, connections: usize, deliveries: usize) -> Self {
        let room = usize::try_from(limit.saturating_sub(OF_ITS_OWN)).unwrap_or(usize::MAX);
        if limit >= PLENTY || connections.saturating_add(deliveries) <= room {
            return Self { connections, deliveries };
        }
        let of_deliveries = deliveries.min((room / 2).max(room.saturating_sub(connections)));
        let of_connections = connections.min(room - of_deliveries);
        Self { connections: of_connections, deliveries: of_deliveries }
    }
}

/// Makes the limit as high as the process may by itself; what it is then.
fn raise_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let lower = limit.current;
        // macOS allows no more than this where it says that there is no limit.
        limit.current = Some(limit.maximum.unwrap_or(PLENTY).min(PLENTY));
        if lower >= limit.current || setrlimit(Resource::Nofile, limit).is_err() {
            limit.current = lower;
        }
    }
    limit.current.unwrap_or(PLENTY)
}

/// Whether something failed because the process, or the machine, has no file left.
pub fn are_used_up_by(error: &(dyn Error + 'static)) -> bool {
    causes::io_codes(error).map(Errno::from_raw_os_error).any(is_used_up)
}

/// Whether no file can be opened just now. What looks up names says otherwise why it fails.
pub fn are_used_up() -> bool {
    File::open("/dev/null").is_err_and(|error| are_used_up_by(&error))
}

fn is_used_up(code: Errno) -> bool {
    code == Errno::MFILE || code == Errno::NFILE
}

/// Makes a directory, and those above it, if it is not there; nobody else may look into it.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a directory and a file in it if they are not there, for their owner's eyes only. A file that is there, such as
/// a backup that was copied back, is closed to all who are neither its owner nor of its group.
pub fn create_private_file(directory: &Path, path: &Path) -> io::Result<()> {
    create_private_directory(directory)?;
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    close_to_others(&file)?;
    drop(file);
    Ok(())
}

#[cfg(unix)]
fn close_to_others(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = file.metadata()?.permissions();
    if permissions.mode() & 0o007 == 0 {
        return Ok(());
    }
    permissions.set_mode(permissions.mode() & 0o770);
    match file.set_permissions(permissions) {
        // It is another user's, who has to say.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        set => set,
    }
}

/// Bytes that may still be written where a directory is.
pub fn free_space(directory: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether everybody on this machine may read a file.
pub fn is_readable_by_all(path: &Path) -> bool {
    #[cfg(unix)]
    let others = fs::metadata(path).is_ok_and(|file| {
        std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o004 != 0
    });
    #[cfg(not(unix))]
    let others = false;
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_copied_back_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("routemaster.db");
        for (mode, expected) in [(0o644, 0o640), (0o666, 0o660), (0o600, 0o600), (0o640, 0o640)] {
            fs::write(&file, "kept").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            create_private_file(directory.path(), &file).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, expected);
            assert_eq!(fs::read(&file).unwrap(), b"kept");
        }
    }

    #[test]
    fn deliveries_have_the_half_at_least_of_what_there_is() {
        let shares = |limit, connections, deliveries| {
            let FileShares { connections, deliveries } =
                FileShares::within(limit, connections, deliveries);
            (connections, deliveries)
        };
        assert_eq!(shares(1 << 20, 10_000, 1_000), (10_000, 1_000));
        assert_eq!(shares(11_040, 10_000, 1_000), (10_000, 1_000));
        assert_eq!(shares(1_040, 10_000, 1_000), (500, 500));
        assert_eq!(shares(1_040, 100, 10_000), (100, 900));
        assert_eq!(shares(1_040, 10_000, 50), (950, 50));
        assert_eq!(shares(LEAST, 10_000, 1_000), (12, 12));
    }

    #[test]
    fn a_lack_of_files_is_known_by_its_code_however_deep_it_stands() {
        let lack = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        let wrapped = io::Error::other(lack);
        assert!(are_used_up_by(&wrapped));
        assert!(!are_used_up_by(&io::Error::from_raw_os_error(Errno::CONNREFUSED.raw_os_error())));
        assert!(!are_used_up());
    }
}
