//! What the room promises: scenarios by name, and agreement with a slow, obvious book.

mod naive;
mod random;
mod scenarios;
