locals {
  name    = "granary-${var.environment}"
  is_prod = var.environment == "prod"
}

resource "aws_kms_key" "warehouse" {
  description             = "Data, backups and secrets of ${local.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "warehouse" {
  name          = "alias/${local.name}"
  target_key_id = aws_kms_key.warehouse.key_id
}

resource "aws_db_subnet_group" "warehouse" {
  name       = local.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "warehouse" {
  name        = local.name
  description = "Postgres of ${local.name}"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(var.client_security_group_ids)

  security_group_id            = aws_security_group.warehouse.id
  referenced_security_group_id = each.value
  description                  = "Granary and who queries it"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

# What Granary sets on its embedded server, where a managed one lets it be set.
resource "aws_db_parameter_group" "warehouse" {
  name_prefix = "${local.name}-"
  family      = "postgres${var.postgres_version}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "random_page_cost"
    value = "1.1"
  }

  parameter {
    name  = "jit"
    value = "0"
  }

  # In KB: a 48th of the memory for a sort, a 12th for an index.
  parameter {
    name  = "work_mem"
    value = "131072"
  }

  parameter {
    name  = "maintenance_work_mem"
    value = "1310720"
  }

  # Statements that fail show values of rows: they go to who sent them and not into a log.
  parameter {
    name  = "log_min_error_statement"
    value = "panic"
  }

  parameter {
    name  = "log_parameter_max_length_on_error"
    value = "0"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "warehouse" {
  identifier     = local.name
  engine         = "postgres"
  engine_version = var.postgres_version
  instance_class = var.instance_class
  db_name        = "granary"
  username       = "granary"

  # AWS makes the password, keeps it as a secret and changes it: it is in no file and in no state.
  manage_master_user_password   = true
  master_user_secret_kms_key_id = aws_kms_key.warehouse.key_id

  allocated_storage     = var.storage_gb.initial
  max_allocated_storage = var.storage_gb.maximum
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = aws_kms_key.warehouse.arn

  db_subnet_group_name   = aws_db_subnet_group.warehouse.name
  vpc_security_group_ids = [aws_security_group.warehouse.id]
  parameter_group_name   = aws_db_parameter_group.warehouse.name
  publicly_accessible    = false
  multi_az               = local.is_prod

  backup_retention_period    = var.backup_days
  backup_window              = "02:00-03:00"
  maintenance_window         = "sun:03:30-sun:04:30"
  auto_minor_version_upgrade = true
  copy_tags_to_snapshot      = true
  deletion_protection        = local.is_prod
  skip_final_snapshot        = !local.is_prod
  final_snapshot_identifier  = local.is_prod ? "${local.name}-last" : null

  performance_insights_enabled    = true
  performance_insights_kms_key_id = aws_kms_key.warehouse.arn
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]

  lifecycle {
    ignore_changes = [engine_version] # minor versions come by themselves
  }
}
