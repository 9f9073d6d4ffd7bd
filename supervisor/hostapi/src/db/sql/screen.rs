//! The screen before the parser: one statement, made of tokens that the parser's lexer and
//! SQLite's read alike, and not nested so deeply that walking the tree would exhaust the stack.
//!
//! The two lexers agree on ASCII, on quotes of all four kinds, on comments and on the operators let
//! through here. They do not agree on NUL (SQLite stops there), other control characters, letters
//! beyond ASCII outside quotes, prefixed strings (`N'…'`, `x'\'…'`) and `$name`, `:name`, `@name`:
//! none of these passes.

use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use super::{PARAMETER_LIMIT, StatementError};

/// Most operators on one path from the top of the tree to a leaf. The parser bounds nesting by
/// brackets but not the depth of `a OR b OR c …`; SQLite itself allows a depth of 1,000.
const CHAIN_LIMIT: usize = 1_000;

/// Most tokens: with them the memory that the tree takes is bounded.
const TOKEN_LIMIT: usize = 20_000;

pub(super) struct Screened {
    pub(super) tokens: Vec<TokenWithSpan>,
    pub(super) placeholders: usize,
    /// Each placeholder's place, and which parameter it stands for, from 0.
    pub(super) places: Vec<(Location, usize)>,
    /// The first word, where the statement starts with one.
    pub(super) first_word: Option<String>,
    /// Byte after the statement: where its first semicolon stands, or the end of the text.
    pub(super) end: usize,
}

pub(super) fn screen(sql: &str, dialect: &dyn Dialect) -> Result<Screened, StatementError> {
    if let Some(c) = sql
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
    {
        return Err(StatementError::Token { token: c.into() });
    }
    let tokens = Tokenizer::new(dialect, sql)
        .tokenize_with_location()
        .map_err(|error| StatementError::Unparsable {
            message: error.to_string(),
        })?;
    if tokens.len() > TOKEN_LIMIT {
        return Err(StatementError::TooDeep);
    }
    let first = tokens
        .iter()
        .find(|token| !matches!(token.token, Token::Whitespace(_)));
    let first_word = first.and_then(|token| match &token.token {
        Token::Word(Word {
            value,
            quote_style: None,
            ..
        }) => Some(value.clone()),
        _ => None,
    });
    let mut end = None;
    let mut depth = Depth::default();
    let mut placeholders = Placeholders::default();
    for TokenWithSpan { token, span } in &tokens {
        match token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                end.get_or_insert_with(|| offset(sql, span.start));
            }
            _ if end.is_some() => return Err(StatementError::Several),
            _ => {}
        }
        if !passes(token) {
            return Err(StatementError::Token {
                token: token.to_string().chars().take(20).collect(),
            });
        }
        depth.see(token)?;
        placeholders.see(token, span.start)?;
    }
    Ok(Screened {
        tokens,
        placeholders: placeholders.needed,
        places: placeholders.places,
        first_word,
        end: end.unwrap_or(sql.len()),
    })
}

/// Bytes before a place that the lexer gives as line and character, both from 1.
fn offset(sql: &str, place: Location) -> usize {
    let before = |count: u64| usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
    let mut lines = sql.split_inclusive('\n');
    let above: usize = lines.by_ref().take(before(place.line)).map(str::len).sum();
    let line = lines.next().unwrap_or_default();
    above
        + line
            .chars()
            .take(before(place.column))
            .map(char::len_utf8)
            .sum::<usize>()
}

fn passes(token: &Token) -> bool {
    match token {
        Token::Word(Word {
            value, quote_style, ..
        }) => match quote_style {
            None => value.is_ascii(),
            // The parser's lexer takes `]]` for an escaped bracket, SQLite's does not.
            Some('[') => !value.contains(']'),
            Some(_) => true,
        },
        Token::Number(_, long) => !long,
        Token::HexStringLiteral(digits) => digits.bytes().all(|c| c.is_ascii_hexdigit()),
        Token::Whitespace(Whitespace::SingleLineComment { prefix, .. }) => prefix == "--",
        Token::EOF
        | Token::Whitespace(_)
        | Token::SingleQuotedString(_)
        | Token::Placeholder(_)
        | Token::Comma
        | Token::Period
        | Token::SemiColon
        | Token::LParen
        | Token::RParen => true,
        other => is_operator(other),
    }
}

/// Whether a token is one of the operators that pass; each of them makes the tree one level deeper.
fn is_operator(token: &Token) -> bool {
    matches!(
        token,
        Token::DoubleEq
            | Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat
            | Token::Ampersand
            | Token::Pipe
            | Token::Tilde
            | Token::ShiftLeft
            | Token::ShiftRight
            | Token::Arrow
            | Token::LongArrow
    )
}

/// Operators seen so far on the way to the current token, one count for each open bracket.
#[derive(Default)]
struct Depth {
    open: Vec<usize>,
    current: usize,
    outer: usize,
}

impl Depth {
    fn see(&mut self, token: &Token) -> Result<(), StatementError> {
        match token {
            Token::LParen => {
                self.open.push(self.current);
                self.outer += self.current + 1;
                self.current = 0;
            }
            Token::RParen => {
                // One too many is the parser's to report.
                let current = self.open.pop().unwrap_or_default();
                self.outer = self.outer.saturating_sub(current + 1);
                self.current = current;
            }
            // What follows a comma is a sibling: a list is wide, not deep.
            Token::Comma => self.current = 0,
            other if chains(other) => self.current += 1,
            _ => {}
        }
        if self.outer + self.current > CHAIN_LIMIT {
            return Err(StatementError::TooDeep);
        }
        Ok(())
    }
}

/// Whether a token makes the tree one level deeper.
fn chains(token: &Token) -> bool {
    match token {
        Token::Word(Word { keyword, .. }) => matches!(
            keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::RLIKE
                | Keyword::SIMILAR
                | Keyword::GLOB
                | Keyword::MATCH
                | Keyword::REGEXP
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::NOTNULL
                | Keyword::DIV
                | Keyword::XOR
                | Keyword::OVERLAPS
                | Keyword::OPERATOR
                | Keyword::AT
                | Keyword::MEMBER
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::MINUS
                | Keyword::CASE
                | Keyword::PRIOR
        ),
        other => is_operator(other),
    }
}

/// Values that a statement needs: as many as there are `?`, or the largest N of `?N`.
#[derive(Default)]
struct Placeholders {
    needed: usize,
    numbered: Option<bool>,
    places: Vec<(Location, usize)>,
}

impl Placeholders {
    fn see(&mut self, token: &Token, place: Location) -> Result<(), StatementError> {
        let Token::Placeholder(text) = token else {
            return Ok(());
        };
        let refused = || StatementError::Placeholder {
            placeholder: text.chars().take(20).collect(),
        };
        let digits = text.strip_prefix('?').ok_or_else(refused)?;
        let numbered = !digits.is_empty();
        if *self.numbered.get_or_insert(numbered) != numbered {
            return Err(refused());
        }
        if numbered {
            match digits.parse() {
                Ok(number @ 1..=PARAMETER_LIMIT) if digits.bytes().all(|c| c.is_ascii_digit()) => {
                    self.places.push((place, number - 1));
                    self.needed = self.needed.max(number);
                }
                _ => return Err(refused()),
            }
        } else {
            self.places.push((place, self.needed));
            self.needed += 1;
            if self.needed > PARAMETER_LIMIT {
                return Err(StatementError::TooManyPlaceholders);
            }
        }
        Ok(())
    }
}
