//! Statements that change the schema: tables and indexes, nothing else.
//!
//! Views and triggers are refused even where `ddl` is granted: they run later with other rights
//! than their maker's, a view for whoever reads it and a trigger within another's write. So are
//! temporary and virtual tables, which would outlive the call in the shared connection or load code.

use std::collections::BTreeSet;

use sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use sqlparser::ast::{
    AlterTableOperation, ColumnDef, ColumnOption, CreateTable, ForeignKeyConstraint, ObjectName,
    ObjectType, ReferentialAction, RenameTableNameKind, Statement, TableConstraint,
};

use sqlparser::tokenizer::Location;

use super::tables::{Walk, add, table_name, writable};
use super::{Classified, RowChanges, StatementError, StatementKind};

pub(super) fn of_schema_change(statement: &Statement) -> Result<Classified, StatementError> {
    let mut change = Change::default();
    match statement {
        Statement::CreateTable(table) => change.create_table(statement, table)?,
        Statement::AlterTable(alter) => {
            change.walk(statement, &alter.name)?;
            for operation in &alter.operations {
                change.alter(operation)?;
            }
        }
        Statement::CreateIndex(index) => {
            if let Some(name) = &index.name {
                table_name(name)?;
            }
            change.walk(statement, &index.table_name)?;
        }
        Statement::Drop {
            object_type,
            names,
            table: None,
            temporary: false,
            ..
        } => {
            change.drop(*object_type, names)?;
        }
        _ => return Err(not_permitted("this form of statement")),
    }
    Ok(Classified {
        kind: StatementKind::Schema,
        reads: change.reads,
        writes: BTreeSet::new(),
        schema: change.schema,
        followed: change.followed,
        changes: RowChanges {
            // Dropping a table removes its rows first.
            removed: matches!(statement, Statement::Drop { .. }),
            updated: false,
        },
        dropped_index: change.dropped_index,
        placeholders: 0,
        expanded: 0,
        is_united: false,
        needle_places: change.needles,
        needles: BTreeSet::new(),
        wildcard: false,
    })
}

fn not_permitted(what: &'static str) -> StatementError {
    StatementError::NotPermitted { what }
}

#[derive(Default)]
struct Change {
    reads: BTreeSet<String>,
    schema: BTreeSet<String>,
    followed: BTreeSet<String>,
    dropped_index: Option<String>,
    needles: BTreeSet<Location>,
}

impl Change {
    /// Looks through the whole statement for reads and functions; `target` is what is changed.
    fn walk(&mut self, statement: &Statement, target: &ObjectName) -> Result<(), StatementError> {
        let walk = Walk::over(statement, &[statement], Some(target))?;
        self.reads.extend(walk.reads);
        self.schema.extend(walk.written);
        self.needles.extend(walk.needles);
        Ok(())
    }

    fn create_table(
        &mut self,
        statement: &Statement,
        table: &CreateTable,
    ) -> Result<(), StatementError> {
        // All that is not named here must be as in a plain CREATE TABLE: what the parser takes for
        // other databases (LIKE, CLONE, INHERITS, TEMPORARY and some forty more) names tables too.
        let plain = CreateTableBuilder::new(table.name.clone())
            .if_not_exists(table.if_not_exists)
            .columns(table.columns.clone())
            .constraints(table.constraints.clone())
            .query(table.query.clone())
            .without_rowid(table.without_rowid)
            .strict(table.strict)
            .build();
        if plain != *table {
            return Err(not_permitted("this form of CREATE TABLE"));
        }
        self.walk(statement, &table.name)?;
        table
            .columns
            .iter()
            .try_for_each(|column| self.column(column))?;
        table
            .constraints
            .iter()
            .try_for_each(|constraint| match constraint {
                TableConstraint::ForeignKey(key) => self.foreign_key(key),
                TableConstraint::Unique(_)
                | TableConstraint::PrimaryKey(_)
                | TableConstraint::Check(_) => Ok(()),
                _ => Err(not_permitted("this form of table constraint")),
            })
    }

    fn column(&mut self, column: &ColumnDef) -> Result<(), StatementError> {
        column
            .options
            .iter()
            .try_for_each(|option| match &option.option {
                ColumnOption::ForeignKey(key) => self.foreign_key(key),
                // Whoever reads one has its expression, and those of the columns in it, in the statement.
                ColumnOption::Generated { .. } => Err(not_permitted("a generated column")),
                _ => Ok(()),
            })
    }

    /// The table that a foreign key refers to is read: whether a row is there can be told by
    /// inserting. One that carries changes on also makes others' writes of that table reach this one,
    /// for which they may have no grant.
    fn foreign_key(&mut self, key: &ForeignKeyConstraint) -> Result<(), StatementError> {
        let (_, table) = table_name(&key.foreign_table)?;
        let table = writable(table)?;
        let carries_on = |action: &ReferentialAction| {
            !matches!(
                action,
                ReferentialAction::NoAction | ReferentialAction::Restrict
            )
        };
        if [&key.on_delete, &key.on_update]
            .into_iter()
            .flatten()
            .any(carries_on)
        {
            self.followed.insert(table.clone());
        }
        add(&mut self.reads, table)
    }

    fn alter(&mut self, operation: &AlterTableOperation) -> Result<(), StatementError> {
        match operation {
            AlterTableOperation::AddColumn { column_def, .. } => self.column(column_def),
            AlterTableOperation::DropColumn { .. } | AlterTableOperation::RenameColumn { .. } => {
                Ok(())
            }
            AlterTableOperation::RenameTable {
                table_name: RenameTableNameKind::To(name),
            } => {
                let (_, table) = table_name(name)?;
                add(&mut self.schema, writable(table)?)
            }
            _ => Err(not_permitted("this form of ALTER TABLE")),
        }
    }

    fn drop(&mut self, what: ObjectType, names: &[ObjectName]) -> Result<(), StatementError> {
        let [name] = names else {
            return Err(not_permitted("this form of DROP"));
        };
        let (_, name) = table_name(name)?;
        match what {
            ObjectType::Table => {
                self.schema.insert(writable(name)?);
            }
            ObjectType::Index => self.dropped_index = Some(name),
            _ => return Err(not_permitted("DROP of anything but a table or an index")),
        }
        Ok(())
    }
}
