//! Debug files from servers, by way of debuginfod-find(1), the client that elfutils keeps.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one file may take, where `DEBUGINFOD_MAXTIME` does not say otherwise.
const LIMIT: Duration = Duration::from_secs(60);
/// A path is no longer than that, in bytes (PATH_MAX).
const MAX_PATH: u64 = 4096;

/// Asks for debug files by build id: the client's cache first, then the client.
#[derive(Debug)]
pub struct Debuginfod {
    /// Where the client keeps what it got, and kept in earlier versions (debuginfod-find(1), FILES).
    caches: Vec<PathBuf>,
    limit: Duration,
    /// There is no client, or it took too long: it is not started again.
    gone: bool,
}

impl Debuginfod {
    /// `None` when `DEBUGINFOD_URLS` names no server: then nobody has agreed to their being asked.
    pub fn new() -> Option<Self> {
        std::env::var_os("DEBUGINFOD_URLS").filter(|urls| !urls.as_encoded_bytes().trim_ascii().is_empty())?;
        let below = |name: &str, rest: &str| std::env::var_os(name).map(|dir| PathBuf::from(dir).join(rest));
        let caches = match std::env::var_os("DEBUGINFOD_CACHE_PATH") {
            Some(dir) => vec![PathBuf::from(dir)],
            None => [
                below("XDG_CACHE_HOME", "debuginfod_client"),
                below("HOME", ".cache/debuginfod_client"),
                below("HOME", ".debuginfod_client_cache"),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        let asked = std::env::var("DEBUGINFOD_MAXTIME").ok().and_then(|s| s.parse().ok()).filter(|s| *s > 0);
        Some(Self { caches, limit: asked.map_or(LIMIT, Duration::from_secs), gone: false })
    }

    /// The debug file with that build id, if the cache or a server has it.
    pub fn find(&mut self, id: &[u8]) -> Option<PathBuf> {
        let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
        // What a server did not have is remembered as an empty file.
        let is_there = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() > 0);
        let kept = self.caches.iter().map(|dir| dir.join(&id).join("debuginfo")).find(is_there);
        if kept.is_some() || self.gone {
            return kept;
        }
        let mut command = Command::new("debuginfod-find");
        command.args(["debuginfo", &id]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        match command.spawn() {
            Ok(mut client) => {
                let said = self.listen(&mut client);
                // It has said all that is wanted; if not, it does not get more time.
                let _ = client.kill();
                let _ = client.wait();
                if said.is_none() {
                    tracing::warn!("debuginfod-find took longer than {:?}: no server is asked any more", self.limit);
                    self.gone = true;
                }
                said.filter(is_there)
            }
            Err(e) => {
                tracing::warn!("debuginfod-find: {e}: no server is asked for debug files");
                self.gone = true;
                None
            }
        }
    }

    /// The path that the client prints, perhaps an empty one; `None` if it takes too long.
    fn listen(&self, client: &mut Child) -> Option<PathBuf> {
        let mut out = File::from(std::os::fd::OwnedFd::from(client.stdout.take()?));
        let end = Instant::now() + self.limit;
        let mut text = Vec::new();
        while (text.len() as u64) < MAX_PATH && !text.ends_with(b"\n") {
            let left = PollTimeout::try_from(end.saturating_duration_since(Instant::now())).ok()?;
            match poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) => return None,
                Err(nix::errno::Errno::EINTR) => continue,
                _ => {}
            }
            let mut part = [0; 512];
            match out.read(&mut part) {
                Ok(n @ 1..) => text.extend_from_slice(part.get(..n)?),
                _ => break,
            }
        }
        Some(PathBuf::from(OsString::from_vec(text.trim_ascii_end().to_vec())))
    }
}
