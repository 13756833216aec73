//! Integration tests: features, not functions. One binary, so that they link once.

mod pipeline;
mod pipeline_support;
mod protocol_doc;
mod random;
mod recovery;
mod scenarios;
mod wire;
