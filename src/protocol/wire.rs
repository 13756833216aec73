//! Wire types and the macros that declare them: one declaration gives a struct its bytes, its
//! validation, its JSON names and its row in docs/protocol.md.
//!
//! Every body is `repr(C)`, little-endian, without implicit padding, at most 16-byte aligned and a
//! multiple of 16 bytes long. Explicit padding is made of [`Zero`] bytes, so a frame with anything
//! else in it fails validation. The tables ([`Field`]) drive the script parser, the JSON printer
//! and the byte map; nothing in the hot path reads them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// A byte that must be zero: what reserved room in a frame is made of.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(u8)]
pub enum Zero {
    /// The only legal value.
    #[default]
    Zero = 0,
}

/// Sixteen bytes of ASCII, padded with zero bytes: codes of assets and participants.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    bytemuck::Pod,
    bytemuck::Zeroable,
)]
#[repr(C)]
pub struct Text16(pub [u8; 16]);

impl Text16 {
    /// The code for `text`, or `None` where it is longer than 16 bytes or not printable ASCII.
    pub fn new(text: &str) -> Option<Text16> {
        let bytes = text.as_bytes();
        if bytes.len() > 16 || !bytes.iter().all(|b| (0x20..0x7f).contains(b)) {
            return None;
        }
        let mut out = [0; 16];
        out[..bytes.len()].copy_from_slice(bytes);
        Some(Text16(out))
    }

    /// Whether the bytes are printable ASCII followed by zero bytes only.
    pub fn is_valid(&self) -> bool {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(16);
        self.0[..len].iter().all(|b| (0x20..0x7f).contains(b))
            && self.0[len..].iter().all(|b| *b == 0)
    }

    /// The text up to the first zero byte; `?` where the bytes are not text.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(16);
        std::str::from_utf8(&self.0[..len]).unwrap_or("?")
    }
}

/// How the bytes of a field read: as JSON, and in the byte map.
#[derive(Clone, Copy, Debug)]
pub enum WireType {
    /// Unsigned integer of 1, 2, 4, 8 or 16 bytes.
    Unsigned,
    /// Signed integer of 4, 8 or 16 bytes.
    Signed,
    /// One byte: 0 false, 1 true.
    Bool,
    /// [`Text16`].
    Text,
    /// One- or two-byte code with names.
    Enum(&'static [(&'static str, u16)]),
    /// Two-byte set of named bits.
    Flags(&'static [(&'static str, u16)]),
    /// Bytes printed as hex.
    Digest,
    /// Reserved zero bytes.
    Pad,
}

/// One field of a body: its row in the byte map.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in scripts and docs.
    pub name: &'static str,
    /// Type name as the source writes it.
    pub type_name: &'static str,
    /// How its bytes read.
    pub wire: WireType,
    /// Offset from the start of the body, in bytes.
    pub offset: usize,
    /// Length in bytes.
    pub size: usize,
    /// Value taken when a script leaves the field out, `None` where it is required. The printer
    /// leaves a field out that holds its default.
    pub default: Option<u128>,
    /// First line of its documentation.
    pub doc: &'static str,
}

/// A type that may stand in a body.
pub trait Wire {
    /// How its bytes read.
    const WIRE: WireType;
}

/// A body with its table of fields.
pub trait WireStruct: Sized {
    /// Its fields in byte order, reserved bytes included.
    const FIELDS: &'static [Field];
    /// Its length in bytes.
    const SIZE: usize = size_of::<Self>();
}

macro_rules! unsigned_wire {
    ($($t:ty),*) => {$(impl Wire for $t { const WIRE: WireType = WireType::Unsigned; })*};
}
unsigned_wire!(u8, u16, u32, u64, u128);

impl Wire for i32 {
    const WIRE: WireType = WireType::Signed;
}
impl Wire for i64 {
    const WIRE: WireType = WireType::Signed;
}
impl Wire for i128 {
    const WIRE: WireType = WireType::Signed;
}
impl Wire for Text16 {
    const WIRE: WireType = WireType::Text;
}
impl<const N: usize> Wire for [u8; N] {
    const WIRE: WireType = WireType::Digest;
}
impl<const N: usize> Wire for [Zero; N] {
    const WIRE: WireType = WireType::Pad;
}

/// A yes-or-no byte that validates: 0 or 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(u8)]
pub enum Bool {
    /// No.
    #[default]
    No = 0,
    /// Yes.
    Yes = 1,
}

impl Bool {
    /// Whether it says yes.
    pub fn is_yes(self) -> bool {
        self == Bool::Yes
    }
}

impl From<bool> for Bool {
    fn from(yes: bool) -> Bool {
        if yes { Bool::Yes } else { Bool::No }
    }
}

impl Wire for Bool {
    const WIRE: WireType = WireType::Bool;
}

/// Declares a body: fields may carry `as "json_name"` and `= default`.
macro_rules! wire_struct {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $fdoc:literal])*
                $field:ident $(as $json:literal)? : $ty:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, zerocopy::TryFromBytes, zerocopy::IntoBytes,
            zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[doc = $fdoc])* pub $field: $ty,)*
        }

        impl $crate::protocol::wire::WireStruct for $name {
            const FIELDS: &'static [$crate::protocol::wire::Field] = &[
                $($crate::protocol::wire::Field {
                    name: wire_struct!(@name $field $($json)?),
                    type_name: stringify!($ty),
                    wire: <$ty as $crate::protocol::wire::Wire>::WIRE,
                    offset: std::mem::offset_of!($name, $field),
                    size: size_of::<$ty>(),
                    default: wire_struct!(@default $($default)?),
                    doc: wire_struct!(@doc $($fdoc,)*),
                },)*
            ];
        }

        const _: () = {
            assert!(size_of::<$name>() % 16 == 0, "a body is a multiple of 16 bytes");
            assert!(align_of::<$name>() <= 16);
        };
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $json:literal) => { $json };
    (@default) => { None };
    (@default $default:expr) => { Some(($default) as u128) };
    (@doc) => { "" };
    (@doc $first:literal, $($rest:literal,)*) => { $first };
}

/// Declares a coded byte (`u8`) or code (`u16`) with the names scripts use.
macro_rules! wire_enum {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident : $repr:ident {
            $( $(#[doc = $vdoc:literal])* $variant:ident = $value:literal $text:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, zerocopy::TryFromBytes,
            zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr($repr)]
        pub enum $name {
            $($(#[doc = $vdoc])* $variant = $value,)*
        }

        impl $name {
            /// Every value with its name in scripts, in code order.
            pub const NAMES: &'static [(&'static str, u16)] = &[$(($text, $value)),*];
            /// Every value, in code order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// Its name in scripts and events.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// The value of that code.
            #[inline(always)]
            pub const fn from_code(code: $repr) -> Option<$name> {
                match code { $($value => Some($name::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl $crate::protocol::wire::Wire for $name {
            const WIRE: $crate::protocol::wire::WireType =
                $crate::protocol::wire::WireType::Enum(Self::NAMES);
        }
    };
}

/// Declares a two-byte set of named bits.
macro_rules! wire_flags {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $( $(#[doc = $vdoc:literal])* $flag:ident = $value:literal $text:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, zerocopy::FromBytes, zerocopy::IntoBytes,
            zerocopy::Immutable, zerocopy::KnownLayout, bytemuck::Pod, bytemuck::Zeroable,
        )]
        #[repr(transparent)]
        pub struct $name(pub u16);

        impl $name {
            $($(#[doc = $vdoc])* pub const $flag: $name = $name($value);)*
            /// Every bit with its name in scripts.
            pub const NAMES: &'static [(&'static str, u16)] = &[$(($text, $value)),*];
            /// Every bit that means something.
            pub const BITS: u16 = 0 $(| $value)*;
            /// No bit set.
            pub const NONE: $name = $name(0);

            /// Whether every bit of `other` is set.
            pub const fn has(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any bit of `other` is set.
            pub const fn any(self, other: $name) -> bool {
                self.0 & other.0 != 0
            }

            /// Both sets together.
            #[must_use]
            pub const fn with(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }

            /// Whether no reserved bit is set.
            pub const fn is_valid(self) -> bool {
                self.0 & !Self::BITS == 0
            }
        }

        impl $crate::protocol::wire::Wire for $name {
            const WIRE: $crate::protocol::wire::WireType =
                $crate::protocol::wire::WireType::Flags(Self::NAMES);
        }
    };
}

pub(crate) use {wire_enum, wire_flags, wire_struct};
