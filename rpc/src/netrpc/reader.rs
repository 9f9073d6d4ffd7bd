//! The reading half of a conversation.
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use pinfold_gob::{DecodeError, Decoder, Limits};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, ReadBuf};

use super::body::Body;
use super::error::End;

/// Most bytes taken from the stream at once. The buffer is on the stack: an idle conversation holds none.
const READ_SIZE: usize = 16 * 1024;

/// A stream and the decoder it feeds.
pub(super) struct Reader<S> {
    stream: S,
    decoder: Decoder,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(super) fn new(stream: S, limits: Limits) -> Self {
        Self {
            stream,
            decoder: Decoder::new(limits),
        }
    }

    /// The next header. Whatever is wrong with one ends the conversation.
    pub(super) async fn header<T: DeserializeOwned>(&mut self) -> Result<T, End> {
        loop {
            match self.decoder.decode() {
                Ok(Some(header)) => return Ok(header),
                Ok(None) => self.fill().await?,
                Err(source) => return Err(End::Decode { source }),
            }
        }
    }

    /// The next body, once it is there as a whole. The inner error is about this body alone.
    pub(super) async fn body(&mut self) -> Result<Result<Body<'_>, DecodeError>, End> {
        loop {
            match self.decoder.is_ready() {
                Ok(true) => return Ok(Ok(Body::new(&mut self.decoder))),
                Ok(false) => self.fill().await?,
                Err(source) if self.decoder.is_broken() => return Err(End::Decode { source }),
                Err(source) => return Ok(Err(source)),
            }
        }
    }

    async fn fill(&mut self) -> Result<(), End> {
        let Self { stream, decoder } = self;
        match read_once(stream, |bytes| decoder.push(bytes)).await {
            Ok(Some(())) => Ok(()),
            Ok(None) if decoder.is_clean_end() => Err(End::PeerClosed),
            Ok(None) => Err(End::Truncated),
            Err(source) => Err(End::Io { source }),
        }
    }
}

/// Reads once and shows what came to `take`; nothing is the stream's end.
pub(super) async fn read_once<S: AsyncRead + Unpin, T>(
    stream: &mut S,
    mut take: impl FnMut(&[u8]) -> T,
) -> io::Result<Option<T>> {
    poll_fn(|cx| {
        let mut space = [const { MaybeUninit::uninit() }; READ_SIZE];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        let bytes = buffer.filled();
        Poll::Ready(Ok((!bytes.is_empty()).then(|| take(bytes))))
    })
    .await
}
