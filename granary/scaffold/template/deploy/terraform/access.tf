# The machine that runs Granary: it reads what was delivered, writes backups, and reads the secrets; nothing else.
data "aws_iam_policy_document" "is_machine" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "machine" {
  name_prefix        = "${local.name}-"
  assume_role_policy = data.aws_iam_policy_document.is_machine.json
}

resource "aws_iam_instance_profile" "machine" {
  name_prefix = "${local.name}-"
  role        = aws_iam_role.machine.name
}

# The secrets of the sources, in the form of .granary/sources.env; the value is put there by hand, never by Terraform.
resource "aws_secretsmanager_secret" "sources" {
  name                    = "${local.name}/sources"
  description             = "Addresses and secrets of the sources"
  kms_key_id              = aws_kms_key.warehouse.arn
  recovery_window_in_days = local.is_prod ? 30 : 7
}

data "aws_iam_policy_document" "machine" {
  statement {
    sid       = "ReadDeliveries"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = ["${aws_s3_bucket.this["landing"].arn}/*"]
  }

  statement {
    sid       = "KeepBackups"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${aws_s3_bucket.this["backups"].arn}/*"]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [for bucket in aws_s3_bucket.this : bucket.arn]
  }

  statement {
    sid     = "ReadSecrets"
    actions = ["secretsmanager:GetSecretValue"]
    resources = [
      aws_secretsmanager_secret.sources.arn,
      aws_db_instance.warehouse.master_user_secret[0].secret_arn,
    ]
  }

  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.warehouse.arn]
  }
}

resource "aws_iam_role_policy" "machine" {
  name   = "granary"
  role   = aws_iam_role.machine.id
  policy = data.aws_iam_policy_document.machine.json
}
