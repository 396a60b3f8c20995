output "host" {
  description = "PGHOST."
  value       = aws_db_instance.warehouse.address
}

output "password_secret" {
  description = "Where the password of PGUSER is kept: the ARN of the secret, not its value."
  value       = aws_db_instance.warehouse.master_user_secret[0].secret_arn
}

output "sources_secret" {
  description = "Where the secrets of the sources are kept."
  value       = aws_secretsmanager_secret.sources.name
}

output "instance_profile" {
  description = "What the machine that runs Granary is to have."
  value       = aws_iam_instance_profile.machine.name
}

output "buckets" {
  description = "By purpose."
  value       = { for purpose, bucket in aws_s3_bucket.this : purpose => bucket.bucket }
}
