//! gob: one value of a stream whose types have been announced.

use std::hint::black_box;

use pinfold_gob::{Decoder, Encoder, Limits, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::messages::{
    CALL_REQUEST, CALL_RESPONSE, CallArrived, CallRequest, CallResponse, payload,
};
use crate::work_load::Prepared;

pub(crate) fn encode_request(bytes: usize) -> Prepared {
    let args = payload(bytes);
    let mut encoding = Encoding::new(&CALL_REQUEST);
    Box::new(move |times| {
        for _ in 0..times {
            encoding.encode(&CallRequest::of(&args));
        }
    })
}

pub(crate) fn encode_response(bytes: usize) -> Prepared {
    let response = response(bytes);
    let mut encoding = Encoding::new(&CALL_RESPONSE);
    Box::new(move |times| {
        for _ in 0..times {
            encoding.encode(&response);
        }
    })
}

pub(crate) fn decode_request(bytes: usize) -> Prepared {
    let args = payload(bytes);
    decode::<CallArrived>(&CALL_REQUEST, &CallRequest::of(&args), |request| {
        request.args.len() + request.function.len() + request.call_token.len()
    })
}

pub(crate) fn decode_response(bytes: usize) -> Prepared {
    decode::<CallResponse>(&CALL_RESPONSE, &response(bytes), |response| {
        response.result.len() + response.error.len()
    })
}

fn response(bytes: usize) -> CallResponse {
    CallResponse {
        result: payload(bytes),
        error: String::new(),
    }
}

/// The writing end of a stream.
struct Encoding {
    schema: &'static Schema,
    encoder: Encoder,
    out: Vec<u8>,
}

impl Encoding {
    fn new(schema: &'static Schema) -> Self {
        Self {
            schema,
            encoder: Encoder::new(),
            out: Vec::new(),
        }
    }

    /// Encodes into the same buffer again.
    fn encode<T: Serialize>(&mut self, value: &T) -> &[u8] {
        self.out.clear();
        self.encoder
            .encode(self.schema, black_box(value), &mut self.out)
            .expect("the value fits its schema");
        black_box(&self.out)
    }
}

/// Decodes the same message over and over; `look` sees that something came out of it.
fn decode<T: DeserializeOwned + 'static>(
    schema: &'static Schema,
    value: &impl Serialize,
    look: fn(&T) -> usize,
) -> Prepared {
    let mut encoding = Encoding::new(schema);
    let mut decoder = Decoder::new(Limits::default());
    // The first brings the types along.
    decoder.push(encoding.encode(value));
    let message = encoding.encode(value).to_vec();
    let take = move |decoder: &mut Decoder| {
        let value = decoder.decode::<T>().expect("our own encoder wrote it");
        let value = value.expect("it is whole");
        assert!(look(black_box(&value)) > 0);
    };
    take(&mut decoder);
    Box::new(move |times| {
        for _ in 0..times {
            decoder.push(black_box(&message));
            take(&mut decoder);
        }
    })
}
