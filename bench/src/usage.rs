//! What processes cost: processor time and memory, as Linux tells it in `/proc`.

use std::ops::{Add, Sub};

use serde::Serialize;

/// Linux counts processor time for programs in hundredths of a second, on every machine.
const TICKS_PER_S: f64 = 100.0;

/// What a process, or several, have used; what is not known is left out.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Usage {
    /// Of all threads, in the kernel too, in seconds.
    pub cpu_s: Option<f64>,
    /// The most that was in memory at once, in bytes.
    pub peak_bytes: Option<u64>,
}

/// What a process has used until now.
pub fn of(id: u32) -> Usage {
    read(&id.to_string())
}

/// What this process has used until now.
pub fn of_this_process() -> Usage {
    read("self")
}

fn read(process: &str) -> Usage {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).ok();
    Usage {
        cpu_s: file("stat").as_deref().and_then(cpu_s),
        peak_bytes: file("status").as_deref().and_then(peak_bytes),
    }
}

/// Fields 14 and 15 of `stat`; the second one is the program's name in brackets and may hold
/// anything.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_S)
}

fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

impl Add for Usage {
    type Output = Self;

    /// Of two processes that run at the same time.
    fn add(self, other: Self) -> Self {
        Self {
            cpu_s: self.cpu_s.zip(other.cpu_s).map(|(one, other)| one + other),
            peak_bytes: self.peak_bytes.zip(other.peak_bytes).map(|(one, other)| one + other),
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    /// What was used since an earlier look; the peak stays, since it cannot be told when it was.
    fn sub(self, earlier: Self) -> Self {
        let cpu_s = self.cpu_s.zip(earlier.cpu_s).map(|(now, before)| now - before);
        Self { cpu_s, peak_bytes: self.peak_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood_whatever_the_program_is_called() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1 2";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(cpu_s("nonsense"), None);
        assert_eq!(peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(peak_bytes("Name:\tx\n"), None);
    }
}
