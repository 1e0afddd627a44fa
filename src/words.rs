//! Enums whose values have a word each: in status, metrics, hooks and on the command line.
//!
//! Each word is written once, beside its variant, and stays once published.

/// Defines an enum without fields, with all its values, their words, `Display` and `FromStr`.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $enum:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$attribute])*
        $visibility enum $enum {
            $($(#[$variant_attribute])* $variant,)+
        }

        impl $enum {
            /// Every value, in the order of their declaration.
            $visibility const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Its word in status, metrics and hooks.
            $visibility const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl ::std::fmt::Display for $enum {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl ::std::str::FromStr for $enum {
            type Err = ();

            fn from_str(word: &str) -> Result<Self, ()> {
                Self::ALL.into_iter().find(|value| value.name() == word).ok_or(())
            }
        }
    };
}

/// Gives the variants of an enum with fields their words. Those of variants after `else` are
/// expressions.
macro_rules! names {
    (
        $enum:ident { $($variant:ident = $word:literal,)+ }
        $(else { $($pattern:pat => $other:expr,)+ })?
    ) => {
        impl $enum {
            /// The words of its own, in the order of their declaration.
            pub const NAMES: [&'static str; [$($word),+].len()] = [$($word),+];

            /// Its word in status, metrics and hooks.
            pub fn name(&self) -> &'static str {
                use $enum::*;
                match self {
                    $($variant { .. } => $word,)+
                    $($($pattern => $other,)+)?
                }
            }
        }
    };
}
