"""What sources read with: arrays' layouts, pictures, tables, tokens, fonts. No source is registered here."""
