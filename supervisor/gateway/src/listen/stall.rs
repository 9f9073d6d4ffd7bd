//! A stream whose peer must read: a write that makes no headway for a time fails, and so does one whose
//! peer reads so slowly that what is written to it would be held for hours.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream with a limit on how long a write may wait.
pub(super) struct StallLimit<T> {
    io: T,
    limit: Duration,
    /// Bytes a second.
    least_rate: u32,
    waiting: Option<Pin<Box<Sleep>>>,
    slow: Option<Slow>,
}

/// From the first write that had to wait until all that is to be written is with the kernel.
struct Slow {
    since: Instant,
    written: u64,
}

impl<T> StallLimit<T> {
    /// What waits for its peer may take `limit` in all, and as much longer as what was written meanwhile
    /// takes at `least_rate` bytes a second.
    pub(super) const fn new(io: T, limit: Duration, least_rate: u32) -> Self {
        Self {
            io,
            limit,
            least_rate,
            waiting: None,
            slow: None,
        }
    }

    /// A write, which counts for a peer that is slow.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match (&mut self.slow, &polled) {
            (None, Poll::Pending) => {
                let since = Instant::now();
                self.slow = Some(Slow { since, written: 0 });
            }
            (Some(slow), Poll::Ready(Ok(count))) => {
                let count = u64::try_from(*count).unwrap_or(u64::MAX);
                slow.written = slow.written.saturating_add(count);
                let rate = u64::from(self.least_rate.max(1));
                let longer = Duration::from_millis(slow.written.saturating_mul(1000) / rate);
                if slow.since.elapsed() > self.limit.saturating_add(longer) {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            _ => {}
        }
        self.limited(cx, polled)
    }

    fn limited<R>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let limit = self.limit;
        let timer = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for StallLimit<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for StallLimit<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        // Asked for once all is written: whatever comes next is another answer, or another part of one
        // that is made as it is read.
        if polled.is_ready() {
            self.slow = None;
        }
        self.limited(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.limited(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn write_that_nobody_reads_fails_after_the_limit() {
        let (near, mut far) = duplex(8);
        let mut near = StallLimit::new(near, Duration::from_millis(20), 1);
        near.write_all(b"12345678").await.unwrap();
        let error = near.write_all(b"9").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut read = [0; 8];
        far.read_exact(&mut read).await.unwrap();
        near.write_all(b"9").await.unwrap();
    }

    #[tokio::test]
    async fn write_that_is_read_byte_by_byte_fails_although_it_makes_headway() {
        let (near, mut far) = duplex(1);
        let reading = tokio::spawn(async move {
            let mut read = [0; 1];
            while far.read_exact(&mut read).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        });
        let mut near = StallLimit::new(near, Duration::from_millis(200), 1 << 20);
        let error = near.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(near);
        reading.await.unwrap();
    }

    #[tokio::test]
    async fn peer_that_keeps_to_the_least_rate_reads_to_the_end() {
        let (near, mut far) = duplex(1);
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            read.len()
        });
        let mut near = StallLimit::new(near, Duration::from_secs(5), 1);
        near.write_all(&[0; 1000]).await.unwrap();
        near.flush().await.unwrap();
        assert!(near.slow.is_none());
        drop(near);
        assert_eq!(reading.await.unwrap(), 1000);
    }
}
