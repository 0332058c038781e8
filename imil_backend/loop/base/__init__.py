"""What every other room needs: settings and files, the audit trail, the policy, locks, states."""
