//! What the peer sends.
use std::time::Duration;

use super::super::error::SessionError;
use super::super::frame::{Flags, FrameType, HEADER_LEN, Header};
use super::super::table::StreamKey;
use super::{Event, Handed, Input, NO_HEADER, Session};

impl Session {
    /// Takes frames apart, wherever the bytes are cut.
    pub(super) fn receive_all(
        &mut self,
        mut bytes: &[u8],
        now: Duration,
    ) -> Result<(), SessionError> {
        if self.ended {
            return Ok(());
        }
        let total = bytes.len();
        while !bytes.is_empty() {
            match &mut self.input {
                Input::Header { have, len } => {
                    let wanted = HEADER_LEN.saturating_sub(*len).min(bytes.len());
                    let (head, rest) = bytes.split_at(wanted);
                    let filled = len.saturating_add(wanted);
                    if let Some(target) = have.get_mut(*len..filled) {
                        target.copy_from_slice(head);
                    }
                    *len = filled;
                    bytes = rest;
                    if filled == HEADER_LEN {
                        let header = Header::parse(*have)
                            .map_err(|source| SessionError::Header { source })?;
                        self.input = NO_HEADER;
                        self.on_header(header, now)?;
                    }
                }
                Input::Payload {
                    stream,
                    remaining,
                    then_fin,
                } => {
                    let (payload, rest) = bytes.split_at((*remaining).min(bytes.len()));
                    *remaining = remaining.saturating_sub(payload.len());
                    let (stream, done, fin) = (*stream, *remaining == 0, *then_fin);
                    let start = total.saturating_sub(bytes.len());
                    bytes = rest;
                    if done {
                        self.input = NO_HEADER;
                    }
                    if let Some(key) = stream {
                        self.deliver(key, (payload, start), done && fin)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn on_header(&mut self, header: Header, now: Duration) -> Result<(), SessionError> {
        let brings = header.kind == FrameType::Data && header.length > 0;
        if !brings || self.table.find(header.stream).is_none() {
            self.control.count(now);
        } else {
            self.control.count_data(header.length, now);
        }
        self.frames = self.frames.saturating_add(1);
        match header.kind {
            FrameType::Ping if header.flags.contains(Flags::SYN) => {
                self.push(FrameType::Ping, Flags::ACK, 0, header.length);
                Ok(())
            }
            FrameType::Ping => {
                self.liveness.answered(header.length, now);
                Ok(())
            }
            FrameType::GoAway if header.length == 0 => {
                self.peer_gone_away = true;
                self.events.push(Event::MayOpen);
                Ok(())
            }
            FrameType::GoAway => Err(SessionError::GoAway {
                code: header.length,
            }),
            FrameType::Data | FrameType::WindowUpdate => self.on_stream_frame(header, now),
        }
    }

    fn on_stream_frame(&mut self, header: Header, now: Duration) -> Result<(), SessionError> {
        let id = header.stream;
        if header.flags.contains(Flags::SYN) {
            self.on_syn(id, now)?;
        }
        let is_data = header.kind == FrameType::Data;
        let payload = if is_data { header.length } else { 0 };
        let remaining = usize::try_from(payload).unwrap_or(usize::MAX);
        let found = self.table.find(id);
        let Some((key, stream)) = found.and_then(|key| Some((key, self.table.get_mut(key)?)))
        else {
            // Streams that are over, or were refused: the rest of what was under way is thrown away.
            if remaining > 0 {
                self.input = Input::Payload {
                    stream: None,
                    remaining,
                    then_fin: false,
                };
            }
            return Ok(());
        };
        let fin = header.flags.contains(Flags::FIN);
        if fin && stream.fin_received {
            return Err(SessionError::UnexpectedFin { stream: id });
        }
        if payload > stream.receive_window {
            let window = stream.receive_window;
            return Err(SessionError::WindowExceeded {
                stream: id,
                length: payload,
                window,
            });
        }
        if !is_data && header.length > 0 {
            stream.send_window = stream.send_window.saturating_add(header.length);
            self.events.push(Event::Writable(key));
        }
        if header.flags.contains(Flags::ACK) && std::mem::take(&mut stream.awaits_ack) {
            self.acknowledged();
        }
        if header.flags.contains(Flags::RST) {
            self.on_rst(key);
        }
        if remaining > 0 {
            self.input = Input::Payload {
                stream: Some(key),
                remaining,
                then_fin: fin,
            };
        } else if fin {
            self.deliver(key, (&[], 0), true)?;
        }
        Ok(())
    }

    fn on_syn(&mut self, id: u32, now: Duration) -> Result<(), SessionError> {
        if self.table.find(id).is_some() {
            return Err(SessionError::DuplicateStream { stream: id });
        }
        let full = self.unaccepted.len() >= self.config.accept_backlog
            || self.table.len() >= self.config.max_streams;
        if self.gone_away || full {
            self.push(FrameType::WindowUpdate, Flags::RST, id, 0);
            return Ok(());
        }
        let key = self.add_stream(id, false, now);
        self.unaccepted.push_back(key);
        self.push(FrameType::WindowUpdate, Flags::ACK, id, self.extra_window());
        self.events.push(Event::Incoming);
        Ok(())
    }

    fn on_rst(&mut self, key: StreamKey) {
        if let Some(place) = self.unaccepted.iter().position(|waiting| *waiting == key) {
            self.unaccepted.remove(place);
            if let Some(stream) = self.table.get_mut(key) {
                stream.released = true;
            }
        }
        self.kill(key);
    }

    /// Takes data that begins at `start` of what was received.
    fn deliver(
        &mut self,
        key: StreamKey,
        (data, start): (&[u8], usize),
        fin: bool,
    ) -> Result<(), SessionError> {
        let Some(stream) = self.table.get_mut(key) else {
            return Ok(());
        };
        if stream.reset {
            return Ok(());
        }
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        stream.receive_window = stream.receive_window.saturating_sub(length);
        stream.fin_received |= fin;
        if stream.released {
            // Thrown away, and granted anew as if it had been read: a peer in the middle of a long
            // write would otherwise wait for ever, and never come to read that the stream is over.
            self.top_up(key);
        } else if stream.handed_over {
            if !data.is_empty() {
                let end = start.saturating_add(data.len());
                self.handed.push(Handed::Data(key, start..end));
                self.top_up(key);
            }
            if fin {
                self.handed.push(Handed::End(key));
            }
        } else {
            stream.received.extend_from_slice(data);
            self.buffered = self.buffered.saturating_add(data.len());
            self.events.push(Event::Readable(key));
        }
        if self.buffered > self.config.max_buffered {
            return Err(SessionError::BufferedTooMuch {
                limit: self.config.max_buffered,
            });
        }
        if fin {
            self.settle(key);
        }
        Ok(())
    }
}
