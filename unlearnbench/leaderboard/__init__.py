"""The leaderboard: suites, submissions, their verification, the ranking and the site. It knows records, not methods."""
