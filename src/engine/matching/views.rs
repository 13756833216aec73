//! What the room says: orders and levels copied out, and the steps of an execution.

use crate::protocol::command::{OrderType, SelfTrade, Side, TimeInForce};
use crate::protocol::units::{ClientOrderId, OrderId, Price, Quantity, Timestamp};

/// A live order's place: good until the order finishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(super) u32);

impl Slot {
    /// Its number, to be kept where something comes due for the order.
    pub fn row(self) -> u32 {
        self.0
    }
}

/// What is known of an order id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It lives here.
    Live(Slot),
    /// It is filled or cancelled.
    Finished,
    /// Never heard of it (since the business day rolled, for a client's id).
    Unknown,
}

/// An order, copied out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// Its place.
    pub slot: Slot,
    /// The engine's id.
    pub order_id: OrderId,
    /// The book.
    pub book: u32,
    /// Whose it is (handle).
    pub participant: u32,
    /// The participant's id.
    pub client_order_id: ClientOrderId,
    /// Buy or sell.
    pub side: Side,
    /// Its type.
    pub order_type: OrderType,
    /// How long it lives.
    pub time_in_force: TimeInForce,
    /// What happens when it meets its own participant.
    pub self_trade: SelfTrade,
    /// Must never take.
    pub post_only: bool,
    /// Ticks: the worst it trades at.
    pub price: Price,
    /// Ticks: what its cover is reckoned at, mostly its price.
    pub cover_price: Price,
    /// Whether anything is held for it.
    pub is_covered: bool,
    /// Whether it has a row among the specials.
    pub is_special: bool,
    /// Lots in total: filled and open.
    pub quantity: Quantity,
    /// Lots open.
    pub leaves: Quantity,
    /// Lots open that the book shows.
    pub displayed: Quantity,
    /// Where it is.
    pub place: Place,
    /// When it lapses, 0 for never.
    pub expires_at: Timestamp,
    /// Where that stands among the deadlines, while it lives beyond its command.
    pub deadline: u32,
    /// Handle of the base account.
    pub base_account: u32,
    /// Handle of the quote account.
    pub quote_account: u32,
    /// What is held for fees.
    pub fee_budget: u128,
}

impl OrderView {
    /// Lots filled so far.
    pub fn filled(&self) -> Quantity {
        Quantity(self.quantity.0 - self.leaves.0)
    }
}

/// Where a live order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the book: it may trade.
    Book,
    /// Beside the book: it waits for a stop price or an auction.
    Beside,
    /// On its way.
    Outside,
}

/// All orders at one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelView {
    /// Ticks.
    pub price: Price,
    /// Lots shown.
    pub quantity: u128,
    /// Orders.
    pub orders: u32,
}

/// An incoming order meets a resting one.
#[derive(Debug)]
pub struct Meeting<'a> {
    /// The resting order as it is now. Its price is the fill's price; without leaves it is done,
    /// and the room takes it out when the step returns.
    pub maker: OrderView,
    /// What the resting order holds for fees; lost with the order where it is done.
    pub maker_fee_budget: &'a mut u128,
    /// What the incoming order holds for fees.
    pub taker_fee_budget: &'a mut u128,
    /// Lots that both sides lose.
    pub quantity: Quantity,
    /// Lots of the incoming order still open.
    pub taker_leaves: Quantity,
}

/// Two orders cross in an auction.
#[derive(Debug)]
pub struct Cross<'a> {
    /// The buy as it is now.
    pub buy: OrderView,
    /// The sell as it is now.
    pub sell: OrderView,
    /// What the buy holds for fees; lost with the order where it is done.
    pub buy_fee_budget: &'a mut u128,
    /// Lots that both sides lose.
    pub quantity: Quantity,
}

/// What happened, one at a time, while an order was executed.
#[derive(Debug)]
pub enum Step<'a> {
    /// They trade `quantity` at the maker's price.
    Fill(Meeting<'a>),
    /// Same participant, `Decrement`: both shrink by `quantity`, their totals too; nothing trades.
    Decrement(Meeting<'a>),
    /// Same participant, `CancelResting` or `CancelBoth`: this order left the book with these
    /// leaves and this fee budget.
    CancelResting(OrderView),
}

/// How execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing leaves; the last step was a fill.
    Filled,
    /// What leaves met everything at its limit or better.
    Open,
    /// What leaves would trade next at a price outside the band.
    Band,
    /// Self-trade prevention ended it: what leaves (nothing, where the last step was a decrement)
    /// must not rest.
    SelfTrade,
}
