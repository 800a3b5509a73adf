"""What a TD or TPM delivers: quotes, reports, event logs. Parsed, not believed."""
