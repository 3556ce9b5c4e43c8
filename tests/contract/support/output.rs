//! What a process prints, line by line as it comes.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

/// One of a process's two output streams.
pub struct Output(watch::Receiver<String>);

impl Output {
    /// Starts to read.
    pub fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (text, watched) = watch::channel(String::new());
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
                text.send_modify(|text| text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
        });
        Self(watched)
    }

    /// Everything printed so far.
    pub fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Everything printed until the stream's end.
    pub async fn whole(&self) -> String {
        let mut watched = self.0.clone();
        while watched.changed().await.is_ok() {}
        watched.borrow().clone()
    }

    /// Waits for a line that contains `part`. `None` if the stream ends without one.
    pub async fn line_with(&self, part: &str) -> Option<String> {
        let mut watched = self.0.clone();
        let text = watched.wait_for(|text| find(text, part).is_some()).await.ok()?;
        find(&text, part).map(str::to_owned)
    }
}

/// The first complete line with `part` in it.
fn find<'a>(text: &'a str, part: &str) -> Option<&'a str> {
    text.split_inclusive('\n').find(|line| line.ends_with('\n') && line.contains(part))
}
