//! Integration tests: features, not functions. One binary, so that they link once.

mod protocol_doc;
mod scenarios;
