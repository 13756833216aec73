//! Administrative commands: the operator's. A kind that needs two users is refused where one gives
//! it directly; what a second user has approved comes here without that question.

use super::{
    approvals, clock, collateral, credit, cycles, groups, liquidity, orders, participants,
    reference_data as setup, rejected, saving, schedule, throttles,
};
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::Command;
use crate::protocol::frame::CommandRef;
use crate::protocol::json::own_id_field;
use crate::protocol::reason::Reason;

/// Executes an administrative command that one user gives directly.
#[cold]
#[inline(never)]
pub(in crate::engine) fn administer(
    state: &mut State,
    asked: Command<'_>,
    given: CommandRef<'_>,
    out: &mut Outbox,
) {
    let kind = given.kind().expect("validated at the door");
    if state.approvals.needs(kind) {
        rejected(kind, own_id(given), Reason::ApprovalRequired, out);
        return;
    }
    execute(state, asked, out);
}

/// The id that a refusal of the command names.
fn own_id(given: CommandRef<'_>) -> u128 {
    let kind = given.kind().expect("validated at the door");
    let name = own_id_field(kind);
    let field = kind.fields().iter().find(|field| Some(field.name) == name);
    field.map_or(0, |field| {
        let mut bytes = [0; 16];
        bytes[..field.size].copy_from_slice(&given.body[field.offset..][..field.size]);
        u128::from_le_bytes(bytes)
    })
}

/// Executes an administrative command.
pub(in crate::engine) fn execute(state: &mut State, command: Command<'_>, out: &mut Outbox) {
    match command {
        Command::CreateAsset(asked) => setup::create_asset(state, asked, out),
        Command::CreateParticipant(asked) => setup::create_participant(state, asked, out),
        Command::CreateAccount(asked) => setup::create_account(state, asked, out),
        Command::CreateInstrument(asked) => setup::create_instrument(state, asked, out),
        Command::SetCreditLine(asked) => liquidity::set_credit_line(state, asked, out),
        Command::SetReservation(asked) => liquidity::set_reservation(state, asked, out),
        Command::SetBilateralLimit(asked) => liquidity::set_bilateral_limit(state, asked, out),
        Command::SetMultilateralLimit(asked) => {
            liquidity::set_multilateral_limit(state, asked, out);
        }
        Command::SetLiquiditySaving(asked) => saving::set_liquidity_saving(state, asked, out),
        Command::RunLiquiditySaving(asked) => saving::run_liquidity_saving(state, asked, out),
        Command::SetParticipantState(asked) => {
            participants::set_participant_state(state, asked, out);
        }
        Command::SetPhase(asked) => clock::set_phase(state, asked, out),
        Command::SetInstrumentPhase(asked) => orders::set_instrument_phase(state, asked, out),
        Command::Uncross(asked) => orders::uncross(state, asked, out),
        Command::SettleCycle(asked) => cycles::settle_cycle(state, asked, out),
        Command::PublishBook(asked) => orders::publish_book(state, asked, out),
        Command::SetCollateralValue(asked) => collateral::set_collateral_value(state, asked, out),
        Command::SetCollateralPool(asked) => collateral::set_collateral_pool(state, asked, out),
        Command::PledgeCollateral(asked) => collateral::pledge_collateral(state, asked, out),
        Command::ReleaseCollateral(asked) => collateral::release_collateral(state, asked, out),
        Command::SetFourEyes(asked) => approvals::set_four_eyes(state, asked, out),
        Command::SchedulePhase(asked) => schedule::schedule_phase(state, asked, out),
        Command::ExtendPhase(asked) => schedule::extend_phase(state, asked, out),
        Command::SetOvernightCredit(asked) => credit::set_overnight_credit(state, asked, out),
        Command::AllowPartialSettlement(asked) => {
            groups::allow_partial_settlement(state, asked, out);
        }
        Command::SetThrottle(asked) => throttles::set_throttle(state, asked, out),
        _ => unreachable!("no administrative command"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::limits::Limits;
    use crate::protocol::command::CommandKind;

    #[test]
    fn every_administrative_kind_has_its_place() {
        for kind in CommandKind::ALL
            .iter()
            .filter(|kind| kind.is_administrative())
        {
            // Bodies of zeros: most are refused, none is unreachable.
            let words = vec![0u128; kind.body_size() / 16];
            if let Ok(command) = Command::decode(*kind, bytemuck::cast_slice(&words)) {
                let mut out = Outbox::with_capacity(16);
                execute(&mut State::new(&Limits::small()), command, &mut out);
                assert!(!out.events().is_empty(), "{kind} answers");
            }
        }
    }
}
