//! Orders (placeholder).
use super::rejected;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::*;
use crate::protocol::frame::CommandRef;
use crate::protocol::reason::Reason;
pub(in crate::engine) fn place_order(_: &mut State, _: &PlaceOrder, out: &mut Outbox) {
    rejected(CommandKind::PlaceOrder, 0, Reason::NotSupported, out)
}
pub(in crate::engine) fn cancel_order(_: &mut State, _: &CancelOrder, out: &mut Outbox) {
    rejected(CommandKind::CancelOrder, 0, Reason::NotSupported, out)
}
pub(in crate::engine) fn replace_order(_: &mut State, _: &ReplaceOrder, out: &mut Outbox) {
    rejected(CommandKind::ReplaceOrder, 0, Reason::NotSupported, out)
}
pub(in crate::engine) fn mass_cancel(_: &mut State, _: &MassCancel, out: &mut Outbox) {
    rejected(CommandKind::MassCancel, 0, Reason::NotSupported, out)
}
pub(in crate::engine) fn expire_day_orders(_: &mut State, _: &mut Outbox) {}
pub(in crate::engine) fn touch_lookups(_: &State, _: CommandRef<'_>) {}
